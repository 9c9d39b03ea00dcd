/** The server in this process, with a restorer that takes no time: jobs, events, refusals, uploads that break off, restarts, and many clients at once. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serve } from '@hono/node-server';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Access } from '../../cli/serve/access.ts';
import { serveApp } from '../../cli/serve/app.ts';
import { type Job, type JobLimits, Jobs, type Restoring } from '../../cli/serve/jobs.ts';
import { UserError } from '../../core/errors.ts';
import { lock } from '../../host/node-lock.ts';
import { OPTIONS } from '../../restore/options.ts';
import { projectFile } from '../support/fixtures.ts';
import { refused } from '../support/refused.ts';

const test = suite('supir serve', { folder: '' });
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-serve-'));
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The photo's bytes the other way round; `wait` may hold it up. */
const reversing =
  (wait: (signal: AbortSignal) => Promise<unknown> = async () => {}): Restoring =>
  async (photo, { name, options }, { signal, progress }) => {
    if (name === 'bad.jpg') throw new UserError('bad.jpg: this is no photo.');
    progress({ share: 0.5, stage: 'sample', secondsLeft: 1 });
    await wait(signal);
    signal.throwIfAborted();
    return { bytes: photo.slice().reverse(), type: 'image/png', width: Number(options.upscale ?? 1), height: 1 };
  };

interface Opened {
  jobs: Jobs;
  ask(path: string, init?: RequestInit): Promise<Response>;
}

async function opened(
  folder: string,
  restoring: Restoring,
  limits: Partial<JobLimits> = {},
  access: Partial<Access> = {},
): Promise<Opened> {
  const jobs = await Jobs.open(join(folder, 'jobs'), restoring, limits);
  const check = ({ tile, tileStride }: { tile?: number; tileStride?: number }) => {
    if (Number(tileStride) > Number(tile)) throw new UserError('Tiles leave gaps.');
  };
  const app = serveApp({
    jobs,
    access: { token: null, hosts: [], origins: [], ...access },
    schema: OPTIONS,
    about: { model: 'none' },
    check,
  });
  const ask = async (path: string, { headers, ...init }: RequestInit = {}) =>
    app.request(`http://127.0.0.1:8188${path}`, { ...init, headers: { host: '127.0.0.1:8188', ...(headers as Record<string, string>) } });
  return { jobs, ask };
}

const post = (body: BodyInit = 'abc') => ({ method: 'POST', body }) as const;
const read = async (response: Response) => (await response.json()) as Job & { error: string; ahead?: number };

test('a photo is sent, its progress told, its result fetched, and all of it removed', async ({ folder }) => {
  const { jobs, ask } = await opened(folder, reversing());
  const sent = await ask('/api/jobs?name=old.jpg&upscale=2&prompt=a+cat.+&control_linear=true&format=webp&quality=80', post());
  assert.is(sent.status, 202);
  const job = await read(sent);
  assert.is(sent.headers.get('location'), `/api/jobs/${job.id}`);
  assert.equal(job.options, { upscale: 2, prompt: 'a cat. ', controlLinear: true });
  const events = await (await ask(`/api/jobs/${job.id}/events`)).text();
  const last = events.trim().split('\n\n').at(-1)!;
  assert.match(last, /^event: state\ndata: .*"state":"done"/);
  const result = await ask(`/api/jobs/${job.id}/result`);
  assert.equal([result.status, result.headers.get('content-type'), await result.text()], [200, 'image/png', 'cba']);
  assert.is(result.headers.get('content-disposition'), "attachment; filename*=UTF-8''old.webp");
  assert.equal(readdirSync(join(folder, 'jobs', job.id)).sort(), ['job.json', 'result']); // the photo has gone
  assert.is(((await (await ask('/api/jobs')).json()) as { jobs: Job[] }).jobs.length, 1);
  assert.is((await ask(`/api/jobs/${job.id}`, { method: 'DELETE' })).status, 204);
  assert.equal([(await ask(`/api/jobs/${job.id}`)).status, readdirSync(join(folder, 'jobs')), jobs.watched], [404, [], 0]);
});

test('what is wrong is told and leaves nothing: options, sizes, photos, addresses', async ({ folder }) => {
  const { ask } = await opened(folder, reversing(), { upload: 1000 });
  for (const [query, status, says] of [
    ['upscale=99', 400, /upscale: It must be a number from 0\.125 to 16/],
    ['model=/etc', 400, /There is no option model/],
    ['format=gif', 400, /format is gif; it must be one of png/],
    ['bits=16&format=jpg', 400, /jpg has no 16 bits/],
    ['tile=64&tile_stride=65', 400, /Tiles leave gaps/],
    ['options=[1]', 400, /they must be an object/],
    ['options={', 400, /It must be JSON/],
  ] as const) {
    const answer = await ask(`/api/jobs?${query}`, post());
    assert.is(answer.status, status);
    assert.match((await read(answer)).error, says);
  }
  assert.is((await ask('/api/jobs', post('x'.repeat(1001)))).status, 413);
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(300)) });
  assert.is((await ask('/api/jobs', { method: 'POST', body: endless, duplex: 'half' } as RequestInit)).status, 413);
  const broken = new ReadableStream({
    pull: (controller) => (controller.desiredSize === 1 ? controller.enqueue(new Uint8Array(3)) : controller.error(new Error('reset'))),
  });
  const halfway = await ask('/api/jobs', { method: 'POST', body: broken, duplex: 'half' } as RequestInit).catch(() => null);
  assert.not.equal(halfway?.status, 202);
  assert.is((await ask('/api/jobs', { method: 'POST' })).status, 400);
  assert.equal(readdirSync(join(folder, 'jobs')), []);
  for (const path of ['/api/jobs/..%2f..%2fetc', '/api/jobs/0/result', '/api/nothing', '/../package.json'])
    assert.is((await ask(path)).status, 404, path);
  const bad = await read(await ask('/api/jobs?name=bad.jpg', post()));
  await (await ask(`/api/jobs/${bad.id}/events`)).text();
  const answer = await ask(`/api/jobs/${bad.id}/result`);
  assert.equal([answer.status, (await read(answer)).error], [409, 'bad.jpg: this is no photo.']);
});

test('docs/openapi.json is what the server gives', async ({ folder }) => {
  const { ask } = await opened(folder, reversing());
  const given = await (await ask('/openapi.json')).json();
  assert.equal(JSON.parse(new TextDecoder().decode(await projectFile('docs/openapi.json'))), given);
});

test('other origins, other names and wrong tokens are refused; what is allowed is answered', async ({ folder }) => {
  const { ask } = await opened(folder, reversing(), {}, { token: 'a-secret', hosts: ['cellar.lan'], origins: ['https://photos.example'] });
  const bearer = { authorization: 'Bearer a-secret' };
  const status = async (headers: Record<string, string>, path = '/api/jobs', method = 'GET') =>
    (await ask(path, { method, headers })).status;
  assert.is(await status({}), 401);
  assert.is(await status({ authorization: 'Bearer a-secre' }), 401);
  assert.is(await status(bearer), 200);
  assert.is(await status({ authorization: `Basic ${btoa('me:a-secret')}` }), 200);
  assert.is(await status({}, '/'), 200); // the page asks for the token itself
  for (const host of ['localhost:8188', '[::1]:8188', '192.168.1.7:8188', 'cellar.lan:8188', 'CELLAR.LAN'])
    assert.is(await status({ ...bearer, host }), 200, host);
  for (const host of ['rebound.example:8188', 'localhost.rebound.example', '127.0.0.1.rebound.example', 'cellar.lan.', ''])
    assert.is(await status({ ...bearer, host }), 403, host);
  assert.is(await status({ ...bearer, origin: 'http://127.0.0.1:8188' }), 200);
  for (const origin of ['http://127.0.0.1:9000', 'https://rebound.example', 'null', 'https://photos.example.rebound.example'])
    assert.is(await status({ ...bearer, origin }), 403, origin);
  assert.is(await status({ ...bearer, 'sec-fetch-site': 'cross-site' }), 403); // an <img> says no origin
  const allowed = { origin: 'https://photos.example', 'sec-fetch-site': 'cross-site' };
  const answer = await ask('/api/jobs', { headers: { ...bearer, ...allowed } });
  assert.equal([answer.status, answer.headers.get('access-control-allow-origin')], [200, 'https://photos.example']);
  const asked = await ask('/api/jobs', { method: 'OPTIONS', headers: allowed });
  assert.equal([asked.status, asked.headers.get('access-control-allow-headers')], [204, 'authorization, content-type']);
  assert.match((await ask('/')).headers.get('content-security-policy') ?? '', /default-src 'none'.*frame-ancestors 'none'/);
});

test('jobs wait in order, are cancelled where they stand, and survive a restart; a folder has one server', async ({ folder }) => {
  // Cancelled before it began, it would wait for ever.
  const waits = reversing((signal) =>
    signal.aborted ? Promise.resolve() : new Promise((resolve) => signal.addEventListener('abort', resolve)),
  );
  const first = await opened(folder, waits, { queue: 3 });
  const sent: Job[] = [];
  for (let i = 0; i < 4; i++) sent.push(await read(await first.ask(`/api/jobs?name=${i}.jpg`, post(`photo ${i}`))));
  while (first.jobs.get(sent[0].id)?.state !== 'running') await pause(5);
  assert.is((await read(await first.ask(`/api/jobs/${sent[3].id}`))).ahead, 3);
  assert.is((await first.ask('/api/jobs', post())).status, 503);
  assert.is((await read(await first.ask(`/api/jobs/${sent[1].id}/cancel`, { method: 'POST' }))).state, 'cancelled');
  assert.is((await read(await first.ask(`/api/jobs/${sent[0].id}/cancel`, { method: 'POST' }))).state, 'cancelled');
  while (first.jobs.get(sent[2].id)?.state !== 'running') await pause(5);
  await first.jobs.close();
  const second = await opened(folder, reversing());
  for (const { id } of sent.slice(2)) assert.is((await second.jobs.settled(id))?.state, 'done');
  assert.is(await (await second.ask(`/api/jobs/${sent[3].id}/result`)).text(), '3 otohp');
  assert.equal(
    second.jobs.list().map(({ state }) => state),
    ['cancelled', 'cancelled', 'done', 'done'],
  );
  const unlock = await lock(join(folder, 'lock'), `${folder} is used`);
  await refused(lock(join(folder, 'lock'), `${folder} is used`), /is used by another process/);
  await unlock();
});

test("A1111's enlarging of one picture", async ({ folder }) => {
  const { jobs, ask } = await opened(folder, reversing());
  const request = (body: object) =>
    ask('/sdapi/v1/extra-single-image', { ...post(JSON.stringify(body)), headers: { 'content-type': 'application/json' } });
  const answer = await request({ image: `data:image/png;base64,${btoa('abc')}`, upscaling_resize: 3, upscaler_1: 'SUPIR', resize_mode: 0 });
  assert.equal([answer.status, await answer.json()], [200, { html_info: '', image: btoa('cba') }]);
  assert.equal([jobs.list(), jobs.watched], [[], 0]);
  assert.is((await request({})).status, 400);
  assert.is((await request({ image: '%%%' })).status, 400);
  assert.is((await request({ image: btoa('x'), upscaling_resize: 99 })).status, 400);
  assert.is(((await (await ask('/sdapi/v1/upscalers')).json()) as { name: string }[])[0].name, 'SUPIR');
});

test('200 requests in flight and 20 clients that vanish: every finished job is fetched, and nothing is left', async ({ folder }) => {
  const jobs = await Jobs.open(
    join(folder, 'jobs'),
    reversing(() => pause(1)),
  );
  const app = serveApp({ jobs, access: { token: null, hosts: [], origins: [] }, schema: OPTIONS, about: {}, check: () => {} });
  const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' });
  await new Promise((resolve) => server.on('listening', resolve));
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const photo = (i: number) => new Uint8Array(60_000).fill(i).fill(i + 1, 100 + i);
  const client = async (i: number) => {
    const { id } = (await (await fetch(`${url}/api/jobs?name=${i}.png`, { method: 'POST', body: photo(i) })).json()) as Job;
    await (await fetch(`${url}/api/jobs/${id}/events`)).text();
    const result = new Uint8Array(await (await fetch(`${url}/api/jobs/${id}/result`)).arrayBuffer());
    assert.equal(Buffer.compare(result, photo(i).reverse()), 0, `${i}`);
    await fetch(`${url}/api/jobs/${id}`, { method: 'DELETE' });
  };
  /** One in the middle of its upload, the next while it waits for progress. */
  const vanishing = async (i: number) => {
    if (i % 2) {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(`POST /api/jobs?name=gone-${i}.png HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000\r\n\r\n${'x'.repeat(20_000)}`);
      await pause(20);
      return void socket.destroy();
    }
    const gone = new AbortController();
    const { id } = (await (await fetch(`${url}/api/jobs?name=left-${i}.png`, { method: 'POST', body: photo(i) })).json()) as Job;
    const events = fetch(`${url}/api/jobs/${id}/events`, { signal: gone.signal }).then((response) => response.text());
    await pause(20);
    gone.abort();
    await events.catch(() => {});
  };
  await Promise.all([...Array.from({ length: 180 }, (_, i) => client(i)), ...Array.from({ length: 20 }, (_, i) => vanishing(i))]);
  for (const { id } of jobs.list()) await jobs.settled(id);
  for (let tries = 0; jobs.watched > 0 && tries < 100; tries++) await pause(20);
  assert.equal(
    jobs.list().map(({ name, state }) => `${name.slice(0, 4)} ${state}`),
    Array(10).fill('left done'),
  ); // those are kept for who asks again
  assert.is(jobs.watched, 0);
  for (let tries = 0; readdirSync(join(folder, 'jobs')).length > 10 && tries < 100; tries++) await pause(20);
  assert.is(readdirSync(join(folder, 'jobs')).length, 10);
  await jobs.close();
  await new Promise((resolve) => {
    server.close(resolve);
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
  assert.ok(existsSync(join(folder, 'jobs')));
});

test.run();
