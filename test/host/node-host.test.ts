/** What only Node's host does: nothing half-written survives a failure or a signal, and waiting for the GPU leaves the processor idle. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { host } from '../../host/node.ts';
import { loaders, probeApart } from '../../host/node-matrices.ts';

const test = suite('node host', { folder: '' });

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-host-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

test('a failed write leaves the folder as it was', async ({ folder }) => {
  mkdirSync(join(folder, 'taken'));
  const error = await host.writeFileAtomic(join(folder, 'taken'), new Uint8Array(1000)).catch((cause) => cause);
  assert.match(error.message, 'taken');
  assert.equal(readdirSync(folder), ['taken']);
});

test('a write stopped by SIGINT leaves the old file and no other', async ({ folder }) => {
  const path = join(folder, 'photo.bin');
  writeFileSync(path, 'old');
  const module = new URL('../../host/node.ts', import.meta.url).href;
  const script = `
    const { host } = await import(${JSON.stringify(module)});
    const bytes = new Uint8Array(64 * 2 ** 20);
    process.stdout.write('writing');
    for (;;) await host.writeFileAtomic(${JSON.stringify(path)} + '.big', bytes);`;
  const tsx = fileURLToPath(import.meta.resolve('tsx'));
  const child = spawn(process.execPath, ['--import', tsx, '--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exit = new Promise<string | null>((done) => child.on('exit', (_, signal) => done(signal)));
  await new Promise((done) => child.stdout.once('data', done));
  while (!readdirSync(folder).some((name) => name.endsWith('.tmp'))) await new Promise((done) => setTimeout(done, 2));
  child.kill('SIGINT');
  assert.is(await exit, 'SIGINT');
  assert.ok(!readdirSync(folder).some((name) => name.endsWith('.tmp')));
  assert.is(readFileSync(path, 'utf8'), 'old');
});

test('matrix units are tried in a process of its own, and a crash there is an answer', async ({ folder }) => {
  const program = (text: string) => {
    writeFileSync(join(folder, 'probe.mjs'), text);
    return probeApart(['a flag'], 20_000, join(folder, 'probe.mjs'));
  };
  const told = await program(`console.log(JSON.stringify({ unit: null, quicker: false, why: process.argv[2] }))`);
  assert.is(told.why, '["a flag"]');
  const crashed = await program(`process.kill(process.pid, 'SIGSEGV'); setTimeout(() => {}, 1e6);`);
  assert.equal(crashed, { unit: null, quicker: false, why: 'the process that tried them ended with SIGSEGV' });
  assert.match((await probeApart([], 20_000, join(folder, 'none.mjs'))).why, /not beside/);
  // No adapter that runs these tests has matrix units, but the whole program can be run.
  assert.match(
    (await probeApart(['enable-dawn-features=allow_unsafe_apis'])).why,
    /does not offer chromium-experimental-subgroup-matrix|times as quick/,
  );
  assert.equal(loaders(['--import', 'tsx', '--require=a', '--input-type=module', '-e', 'run()']), ['--import', 'tsx', '--require=a']);
});

test('while settle waits, timers fire and the thread sleeps', async () => {
  // Stands in for Dawn, which polls from setImmediate for as long as a promise is pending.
  let turns = 0;
  const gpuWork = new Promise<string>((done) => {
    const end = performance.now() + 400;
    const poll = () => {
      turns++;
      performance.now() < end ? setImmediate(poll) : done('done');
    };
    setImmediate(poll);
  });
  let ticks = 0;
  const timer = setInterval(() => ticks++, 10);
  assert.is(await host.settle(gpuWork), 'done');
  clearInterval(timer);
  assert.ok(ticks >= 20, `${ticks} timer ticks in 400 ms`);
  assert.ok(turns <= 3000, `${turns} turns of the event loop in 400 ms; a free-running loop makes hundreds of thousands`);
});

test.run();
