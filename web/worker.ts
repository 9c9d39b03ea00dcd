/** The engine: a worker that answers the page's calls. Heavy calls wait for one another; a call that was cancelled ends with an AbortError. */
import { type Facts, factsOf, UserError } from '../core/errors.ts';
import { screen } from '../host/browser.ts';
import type { CallContext } from './call-context.ts';
import { adapterReport, benchmark } from './engine-adapter.ts';
import { Explorer } from './engine-explore.ts';
import { EngineFiles } from './engine-files.ts';
import { EngineModel } from './engine-model.ts';
import { EngineRuns } from './engine-runs.ts';
import type { Call, Calls, ToEngine } from './protocol.ts';

/** What a call may use besides its parameters. */
type Handlers = { [C in Call]: (params: Calls[C][0], context: CallContext<Calls[C][2]>) => Promise<Calls[C][1]> };

const files = new EngineFiles();
const model = new EngineModel(files);
const explorer = new Explorer(model);
const runs = new EngineRuns(model, explorer);

const handlers: Handlers = {
  seen: async (seen) => {
    screen.told = seen;
    return null;
  },
  start: (choice) => {
    model.adapter = choice;
    return adapterReport(files.host, choice);
  },
  benchmark: async () => benchmark((await model.restorer()).device),
  check: async (_, context) => (await import('./engine-check.ts')).check(files.host, model.adapter, context),
  inspect: (given) => files.add(given),
  forget: (path) => files.remove(path),
  kept: () => files.kept(),
  keep: async (path, { emit, signal }) => {
    await files.keep(path, (done, of) => emit({ done, of }), signal);
    return null;
  },
  openKept: (id) => files.openKept(id),
  removeKept: (id) => files.removeKept(id),
  async openModel({ which, weights }, { emit }) {
    const report = await model.open(which, weights, (done, of) => emit({ done, of }));
    explorer.forget();
    return report;
  },
  addLora: (given) => model.addLora(given, given.scale),
  scaleLora: ({ id, scale }) => model.scaleLora(id, scale),
  removeLora: (id) => model.removeLora(id),
  plan: (given) => runs.plan(given),
  forecast: (asked) => runs.forecast(asked),
  lookAt: ({ file, name }) => runs.lookAt(file, name),
  findFaces: ({ file, name }, { signal }) => runs.findFaces(file, name, signal),
  decodePhoto: ({ file, name }) => runs.decodePhoto(file, name),
  restore: (job, context) => runs.restore(job, context),
  difference: ({ id, to }) => runs.difference(id, to),
  fidelity: async (id) => runs.fidelity(id),
  forgetResult: async (id) => {
    runs.forget(id);
    return null;
  },
  network: () => explorer.network(),
  recorded: () => explorer.recorded(),
  energies: (step) => explorer.energies(step),
  activation: ({ block, step }) => explorer.activation(block, step),
  attention: ({ layer, step, x, y }) => explorer.attention(layer, step, x, y),
};

/** Calls that use the device or change the model: one at a time. */
const SERIAL: ReadonlySet<Call> = new Set([
  'start',
  'benchmark',
  'check',
  'openModel',
  'addLora',
  'removeLora',
  'restore',
  'forecast',
  'network',
]);

const cancels = new Map<number, AbortController>();
let last: Promise<unknown> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<ToEngine>) => {
  if ('cancel' in data) cancels.get(data.id)?.abort();
  else void answer(data.id, data.call, data.params);
};

async function answer(id: number, call: Call, params: unknown): Promise<void> {
  const cancel = new AbortController();
  cancels.set(id, cancel);
  const context: CallContext<unknown> = {
    emit: (event, transfer = []) => postMessage({ id, event }, { transfer }),
    signal: cancel.signal,
  };
  const run = (): Promise<unknown> => {
    cancel.signal.throwIfAborted();
    return handlers[call](params as never, context as never);
  };
  const result = SERIAL.has(call) ? last.then(run) : Promise.resolve().then(run);
  if (SERIAL.has(call)) last = result.catch(() => undefined);
  try {
    const value = await result;
    postMessage({ id, result: value }, { transfer: bitmapsIn(value) });
  } catch (error) {
    postMessage({ id, error: described(error) });
  } finally {
    cancels.delete(id);
  }
}

/** Bitmaps in a result, which change hands. */
function bitmapsIn(value: unknown, depth = 0): ImageBitmap[] {
  if (value instanceof ImageBitmap) return [value];
  return typeof value === 'object' && value !== null && depth < 2 ? Object.values(value).flatMap((each) => bitmapsIn(each, depth + 1)) : [];
}

/** Faults, unlike errors that a person can mend, go to the console with their stack. */
function described(error: unknown): { name: string; message: string; facts: Facts } {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  if (!(error instanceof UserError) && !['AbortError', 'DeviceError'].includes(name)) console.error(error);
  return { name, message, facts: factsOf(error) };
}
