/** The page's queue of photos, with an engine that fails: which failures end it. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SUPIR_SDXL } from '../../models/config.ts';
import type { FromEngine, ToEngine } from '../../web/protocol.ts';
import { UNMARKED } from '../../web/strokes.ts';
import { skip } from '../support/skip.ts';

/** Facts of the error that each restoration ends with, in turn. */
const ends: { code: string }[] = [];

/** What the engine is told of whether the page is seen. */
const seen: boolean[] = [];

/** Stands for the engine's worker. */
class FailingWorker {
  onmessage: ((event: { data: FromEngine }) => void) | null = null;
  postMessage(message: ToEngine): void {
    if (!('call' in message)) return;
    if (message.call === 'seen') {
      seen.push(message.params);
      queueMicrotask(() => this.onmessage?.({ data: { id: message.id, result: null } }));
      return;
    }
    assert.is(message.call, 'restore');
    const error = { name: 'DeviceError', message: 'It failed.', facts: ends.shift()! };
    queueMicrotask(() => this.onmessage?.({ data: { id: message.id, error } }));
  }
}

/** A browser's document cannot be replaced. */
const inBrowser = 'document' in globalThis;
const document = { visibilityState: 'visible', baseURI: 'http://localhost/', body: { dataset: { engine: 'worker.js' } } };
const pageGlobals = { document, navigator: {}, Worker: FailingWorker };
const before = Object.keys(pageGlobals).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)] as const);
if (!inBrowser)
  for (const [name, value] of Object.entries(pageGlobals)) Object.defineProperty(globalThis, name, { value, configurable: true });

const { photos, restoreAll } = await import('../../web/photos.ts');
const { notices } = await import('../../web/notices.ts');
const { model, tellSeen } = await import('../../web/session.ts');

test.after(() => {
  if (inBrowser) return;
  for (const [name, descriptor] of before)
    if (descriptor) Object.defineProperty(globalThis, name, descriptor);
    else delete (globalThis as Record<string, unknown>)[name];
});

async function statuses(...codes: string[]): Promise<string[]> {
  model.value = { which: 'demo', report: { method: 'SUPIR', config: SUPIR_SDXL, parameters: 0, bytes: 0, files: [] } };
  ends.splice(0, ends.length, ...codes.map((code) => ({ code })));
  photos.value = ['a', 'b', 'c'].map((name, id) => ({
    id,
    name,
    file: new Blob(),
    url: 'blob:',
    width: 64,
    height: 64,
    status: 'waiting',
    problem: null,
    marks: UNMARKED,
  }));
  notices.value = [];
  await restoreAll();
  return photos.value.map(({ status }) => status);
}

test('a photo that fails does not stop the others', async () => {
  if (inBrowser) return skip('a browser has a document of its own.');
  assert.equal(await statuses('wrong-values-again', 'option-value', 'no-such'), ['failed', 'failed', 'failed']);
});

test('where the GPU is lost again and again, no other photo is begun, and that is told', async () => {
  if (inBrowser) return skip('a browser has a document of its own.');
  for (const code of ['device-lost-again', 'no-adapter-again']) {
    assert.equal(await statuses('no-such', code), ['failed', 'failed', 'waiting'], code);
    assert.is(notices.value[notices.value.length - 1].text, 'The other photo was not begun: it would end alike.');
  }
});

test('the engine knows from its beginning whether the page is seen, and hears when that changes', () => {
  if (inBrowser) return skip('a browser has a document of its own.');
  assert.equal(seen, [true]);
  document.visibilityState = 'hidden';
  tellSeen();
  assert.equal(seen, [true, false]);
});

test.run();
