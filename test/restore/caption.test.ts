/** Captions by a vision model: against a server of the test's own that speaks the documented API, with what real ones do otherwise, and what goes wrong. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { host } from '../../host/node.ts';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { createImage, type Image } from '../../image/image.ts';
import { captionServer, chatAddress, usable } from '../../restore/caption.ts';
import { Restorer } from '../../restore/restorer.ts';
import { projectFile } from '../support/fixtures.ts';

interface Asked {
  path: string;
  key: string | undefined;
  body: {
    model: string;
    stream: boolean;
    temperature?: number;
    max_tokens?: number;
    messages: { content: { image_url?: { url: string } }[] }[];
  };
}

type Answer = (response: ServerResponse, asked: Asked) => void;

const asked: Asked[] = [];
let answers: Answer[] = [];
let url: string;
const server = createServer(async (request: IncomingMessage, response) => {
  let text = '';
  for await (const part of request) text += part;
  const seen = { path: request.url!, key: request.headers.authorization, body: JSON.parse(text) };
  asked.push(seen);
  (answers.length > 1 ? answers.shift()! : answers[0])(response, seen);
});

test.before(async () => {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
});
test.after(() => void server.close());
test.before.each(() => {
  asked.length = 0;
});

const json =
  (value: unknown, status = 200, headers = {}): Answer =>
  (response) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(value));
  };
const says = (content: unknown, more = {}): Answer =>
  json({
    id: '1',
    object: 'chat.completion',
    choices: [{ index: 0, message: { role: 'assistant', content, ...more }, finish_reason: 'stop' }],
  });
const photo = createImage(1600, 20);
const waits: number[] = [];
const ask = (...given: Answer[]) => {
  answers = given;
  return captionServer({ url, model: 'eyes', timeout: 5, wait: async (seconds) => void waits.push(seconds) });
};
const refuses = async (why: RegExp, ...given: Answer[]) => {
  const error = await ask(...given)(photo).catch((error) => error);
  assert.instance(error, UserError);
  assert.match(error.message, why);
  return error as UserError;
};

test('the question is as the API documents it, with the photo as a small JPEG, and the key where there is one', async () => {
  answers = [says(' "A lighthouse, grey sea" ')];
  assert.is(await captionServer({ url: `${url}/`, model: 'eyes', key: 'secret' })(photo), 'A lighthouse, grey sea');
  const [{ path, key, body }] = asked;
  assert.equal([path, key, body.model, body.stream, body.temperature], ['/v1/chat/completions', 'Bearer secret', 'eyes', false, 0]);
  const [, picture] = body.messages[0].content;
  const [, base64] = /^data:image\/jpeg;base64,(.*)$/.exec(picture.image_url!.url)!;
  const { width, height } = await decode(new Uint8Array(Buffer.from(base64, 'base64')), 'sent');
  assert.equal([width, height], [1024, 13]);
  await ask(says('a cat'))(photo);
  assert.is(asked[1].key, undefined);
});

test('addresses are read with and without what they end in, and others are refused', () => {
  const full = 'http://localhost:11434/v1/chat/completions';
  for (const given of ['http://localhost:11434/v1', 'http://localhost:11434/v1/', 'http://localhost:11434', full])
    assert.is(chatAddress(given).href, full);
  assert.is(chatAddress('https://a.example/openai/v3').href, 'https://a.example/openai/v3/chat/completions');
  for (const bad of ['localhost:11434', 'file:///etc', 'nowhere', 'http://me:secret@localhost/v1'])
    assert.throws(() => chatAddress(bad), /address/);
  assert.throws(() => captionServer({ url, model: ' ' }), /needs the name of a model/);
  assert.throws(() => captionServer({ url, model: 'x', key: 'a\nb' }), /key has blanks/);
});

test('what servers do otherwise is read: parts, thoughts, marks, introductions and long answers', async () => {
  assert.is(
    await ask(
      says([
        { type: 'text', text: 'a dog,' },
        { type: 'text', text: 'a park' },
      ]),
    )(photo),
    'a dog, a park',
  );
  assert.is(await ask(says('<think>What is it?\nA dog.</think>\n\n**A dog**', { reasoning: 'hm' }))(photo), 'A dog');
  assert.is(usable('Here is a description of the photo: a red barn,\n snow'), 'a red barn, snow');
  assert.is(usable('The image shows a red barn'), 'a red barn');
  assert.is(usable('- old man, white beard\n- blue cap'), 'old man, white beard - blue cap');
  const long = usable(Array.from({ length: 300 }, (_, i) => (i % 10 === 9 ? `word${i},` : `word${i}`)).join(' '));
  assert.ok(long.split(' ').length <= 60 && long.endsWith('word49'), long.slice(-20));
});

test('no answer, a refusal and an answer of nothing are no captions', async () => {
  await refuses(/answered with nothing/, says(''));
  await refuses(/answered with nothing/, says('<think>endless'));
  await refuses(/answered with nothing/, says(null));
  await refuses(/refused: I.m sorry, but I can.t/, says("I'm sorry, but I can't help with that."));
  await refuses(/refused: no people/, says(null, { refusal: 'no people' }));
});

test('a server that is busy is asked again, as late as it says, and one that goes on so is given up', async () => {
  waits.length = 0;
  assert.is(await ask(json({}, 503), json({ error: { message: 'later' } }, 429, { 'retry-after': '7' }), says('a cat'))(photo), 'a cat');
  assert.equal(waits, [1, 7]);
  const caption = ask(json({ error: 'loading model' }, 503));
  for (let i = 0; i < 3; i++)
    await caption(photo).then(
      () => assert.unreachable(),
      ({ message }) => assert.match(message, /busy or fails \(status 503\)\. It says: loading model/),
    );
  assert.is(asked.length, 3 + 6, 'not for the third photo');
});

test('what fails for every photo is asked once: a key, a model, an address, a web page', async () => {
  const cases: [RegExp, Answer][] = [
    [/refused the key\. It says: Incorrect API key/, json({ error: { message: 'Incorrect API key', type: 'invalid_request_error' } }, 401)],
    // Ollama's own form of an error.
    [/has no model eyes\. It says: model 'eyes' not found/, json({ error: "model 'eyes' not found" }, 404)],
    [
      /cannot look at pictures with the model eyes/,
      json({ error: { code: 500, message: 'image input is not supported - you may need the mmproj' } }, 500),
    ],
    [/answered with a web page: is http:\S+ the address of its API/, (response) => response.end('<!doctype html><p>Hello')],
    [/answered with something that is no JSON \(status 404\)/, (response) => void response.writeHead(404).end('404 page not found')],
    [/sends elsewhere/, (response) => void response.writeHead(307, { location: 'http://127.0.0.1:9/' }).end()],
    [/holds no message/, json({ object: 'list' })],
    [/more than 1048576 bytes/, (response) => void response.end(new Uint8Array(2 ** 20 + 1))],
  ];
  for (const [why, answer] of cases) {
    asked.length = 0;
    const caption = ask(answer);
    for (let i = 0; i < 2; i++)
      await caption(photo).then(
        () => assert.unreachable(),
        ({ message }) => assert.match(message, why),
      );
    assert.is(asked.length, 1, String(why));
  }
});

test('settings that a model refuses are left out', async () => {
  const picky: Answer = (response, { body }) => {
    const refused = ['max_tokens', 'temperature'].find((name) => name in body);
    if (refused) json({ error: { message: `Unsupported parameter: '${refused}'` } }, 400)(response, asked[0]);
    else says('a cat')(response, asked[0]);
  };
  assert.is(await ask(picky)(photo), 'a cat');
  assert.is(asked.length, 3);
});

test('a server that is slow or not there is told so, and a stop ends the waiting', async () => {
  answers = [() => {}];
  const slow = captionServer({ url, model: 'eyes', timeout: 0.05, wait: async () => {} });
  await slow(photo).then(
    () => assert.unreachable(),
    ({ message }) => assert.match(message, /did not answer within 0\.05 seconds/),
  );
  const nowhere = captionServer({ url: 'http://127.0.0.1:9/v1', model: 'eyes', wait: async () => {} });
  await nowhere(photo).then(
    () => assert.unreachable(),
    ({ message }) => assert.match(message, /cannot be reached\. Is it running/),
  );
  const stop = new AbortController();
  const stopped = captionServer({ url, model: 'eyes' })(photo, stop.signal);
  setTimeout(() => stop.abort(new Error('stopped')), 20);
  await stopped.then(
    () => assert.unreachable(),
    ({ message }) => assert.is(message, 'stopped'),
  );
  server.closeAllConnections();
});

test('a restoration asks where no prompt is given, keeps the answer for a resumed run, and goes on without one', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'supir-caption-'));
  const restorer = await Restorer.load(host, new URL('../../demo', import.meta.url).pathname);
  const small: Image = crop(await decode(await projectFile('demo/photos/cat-noisy.jpg'), 'cat'), 40, 40, 64, 64);
  const options = { steps: 2, cfg: 1, cfgStart: 1, minSize: 64 };
  const shown: Image[] = [];
  const caption = async (image: Image) => {
    shown.push(image);
    return `seen ${shown.length}`;
  };
  try {
    const killed = { caption, state: folder, step: () => Promise.reject(new Error('killed')) };
    await restorer.restore(small, options, killed).then(
      () => assert.unreachable(),
      ({ message }) => assert.is(message, 'killed'),
    );
    const { recipe, finished } = await restorer.restore(small, options, { caption, state: folder });
    assert.equal([recipe.options.prompt, shown.length], ['seen 1. ', 1]);
    await finished();
    assert.equal(readdirSync(folder), []);
    await restorer.restore(small, recipe.options, { caption });
    await restorer.restore(small, { ...options, prompt: '', stage1Only: true }, { caption });
    assert.is(shown.length, 1, 'nobody was asked again');
    // Of stage 1, and of every tile.
    const tiles = { ...options, stage1Only: true, tile: 8 };
    const wide = { ...crop(await decode(await projectFile('demo/photos/cat-noisy.jpg'), 'cat'), 20, 40, 96, 64) };
    const tiled = await restorer.restore(wide, tiles, { caption, captionFrom: 'stage1', captionTiles: true });
    assert.is(tiled.recipe.options.prompt, 'seen 2. ');
    assert.equal(
      tiled.recipe.options.tilePrompts,
      Array.from({ length: shown.length - 2 }, (_, i) => `seen ${i + 3}. `),
    );
    assert.ok(shown.length > 4);
    assert.equal([shown[1].width, shown[1].height], [96, 64]);
    assert.is.not(shown[1].data[0], wide.data[0]);
    const told: string[] = [];
    const failing = async () => {
      throw new UserError('Nobody is there.');
    };
    const plain = await restorer.restore(
      small,
      { ...options, stage1Only: true },
      { caption: failing, name: 'c.png', warning: ({ message }) => void told.push(message) },
    );
    assert.equal([plain.recipe.options.prompt, told], ['', ['c.png: no caption. Nobody is there.']]);
  } finally {
    await restorer.close();
    rmSync(folder, { recursive: true });
  }
});

test.run();
