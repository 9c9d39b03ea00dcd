/** What processes leave that were killed, and two that want one thing at once: locks and temporary files know their owner. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { host } from '../../host/node.ts';
import { lock } from '../../host/node-lock.ts';
import { runs, thisProcess } from '../../host/node-owner.ts';
import { refused } from '../support/refused.ts';

const test = suite('what killed processes leave', { folder: '' });

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-left-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

const tsx = fileURLToPath(import.meta.resolve('tsx'));
const href = (path: string) => JSON.stringify(new URL(`../../${path}`, import.meta.url).href);

/** A process that runs the script and says something on standard output when it is where it should be. */
async function run(script: string): Promise<{ pid: number; kill(signal: NodeJS.Signals): Promise<string | number> }> {
  const child = spawn(process.execPath, ['--import', tsx, '--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<string | number>((done) => child.on('exit', (code, signal) => done(code ?? signal!)));
  await new Promise((done) => child.stdout.once('data', done));
  return {
    pid: child.pid!,
    kill: (signal) => {
      child.kill(signal);
      return ended;
    },
  };
}

const holder = (path: string) => `
  const { lock } = await import(${href('host/node-lock.ts')});
  await lock(${JSON.stringify(path)}, 'x is being written');
  process.stdout.write('held');
  setInterval(() => {}, 1000);`;

test('a lock keeps others out, names its owner, and is free again once that one is gone, however it went', async ({ folder }) => {
  const path = join(folder, 'deep', 'out.lock');
  for (const signal of ['SIGTERM', 'SIGKILL', 'SIGHUP'] as const) {
    const other = await run(holder(path));
    await refused(
      lock(path, 'x is being written'),
      new RegExp(`^x is being written by another process \\(number ${other.pid}, since 20[^)]*\\)\\. Wait until`),
    );
    assert.is(await other.kill(signal), signal);
    assert.equal(readdirSync(join(folder, 'deep')), signal === 'SIGKILL' ? ['out.lock'] : [], signal);
    const free = await lock(path, 'x is being written');
    await refused(lock(path, 'x is being written'), /by another process/);
    await free();
    assert.equal(readdirSync(join(folder, 'deep')), []);
    const inNew = await lock(join(folder, 'new', 'deeper', 'x.lock'), 'x');
    await inNew();
    assert.equal(readdirSync(folder), ['deep'], 'folders made for a lock alone go with it');
  }
});

test('of many that take over a stale lock at once, one gets it', async ({ folder }) => {
  const path = join(folder, 'out.lock');
  for (let round = 0; round < 20; round++) {
    writeFileSync(path, JSON.stringify({ ...thisProcess, pid: 2 ** 22 + 1, id: 'gone', since: '2020' }));
    const taken = await Promise.allSettled(Array.from({ length: 8 }, () => lock(path, 'x is being written')));
    const won = taken.filter(({ status }) => status === 'fulfilled') as PromiseFulfilledResult<() => Promise<void>>[];
    assert.is(won.length, 1, `round ${round}`);
    await won[0].value();
    assert.equal(readdirSync(folder), [], `round ${round}`);
  }
});

test('a number given to another process, a torn lock and one of another machine', async ({ folder }) => {
  const path = join(folder, 'out.lock');
  const own = { ...thisProcess, id: 'a', since: '2020' };
  if (thisProcess.began !== 0) {
    writeFileSync(path, JSON.stringify({ ...own, began: thisProcess.began + 1 }));
    await (await lock(path, 'x is being written'))();
  }
  for (const torn of ['', '{"pid":', 'null', '{"pid":-5}', '\0\0\0\0']) {
    writeFileSync(path, torn);
    await refused(lock(path, 'x is being written'), /by another process\.$/);
    utimesSync(path, 1, 1);
    await (await lock(path, 'x is being written'))();
  }
  writeFileSync(path, JSON.stringify({ ...own, machine: '00000000' }));
  await refused(
    lock(path, 'x is being written'),
    /of another machine, since 2020\)\. Wait until it is done; should it have ended, remove .*out\.lock/,
  );
  assert.is(runs({ ...own, machine: '00000000' }), null);
  assert.is(runs(own), true);
});

test('temporary files of killed processes go with the next write; others stay', async ({ folder }) => {
  const other = await run(`
    const { host } = await import(${href('host/node.ts')});
    process.stdout.write('writing');
    for (;;) await host.writeFileAtomic(${JSON.stringify(join(folder, 'big'))}, new Uint8Array(2 ** 25));`);
  const temporary = () => readdirSync(folder).filter((name) => name.endsWith('.tmp'));
  while (temporary().length === 0) await new Promise((done) => setTimeout(done, 1));
  await host.writeFileAtomic(join(folder, 'mine.bin'), new Uint8Array(10));
  await other.kill('SIGKILL');
  // Killed between two writes it may have left none; then one is made that looks as if.
  const gone = `.supir-${thisProcess.machine}-${other.pid}-1-00.tmp`;
  const foreign = '.supir-00000000-1-1-00.tmp';
  const old = '.supir-00000000-1-1-01.tmp';
  for (const name of [
    gone,
    foreign,
    old,
    '.supir-x.tmp',
    'a.tmp',
    `.supir-${thisProcess.machine}-${process.pid}-${thisProcess.began}-ff.tmp`,
  ])
    writeFileSync(join(folder, name), '');
  utimesSync(join(folder, old), 1, 1);
  const script = `
    const { host } = await import(${href('host/node.ts')});
    await host.writeFileAtomic(${JSON.stringify(join(folder, 'next.bin'))}, new Uint8Array(10));
    process.stdout.write('done');
    setInterval(() => {}, 1000);`;
  await (await run(script)).kill('SIGTERM');
  assert.equal(
    readdirSync(folder)
      .filter((name) => name !== 'big')
      .sort(),
    [
      foreign,
      `.supir-${thisProcess.machine}-${process.pid}-${thisProcess.began}-ff.tmp`,
      '.supir-x.tmp',
      'a.tmp',
      'mine.bin',
      'next.bin',
    ].sort(),
  );
});

test('names of 255 bytes are written, longer ones and pipes refused in words', async ({ folder }) => {
  for (const name of ['n'.repeat(255), `${'日'.repeat(84)}png`]) {
    await host.writeFileAtomic(join(folder, name), new TextEncoder().encode('whole'));
    assert.is(readFileSync(join(folder, name), 'utf8'), 'whole');
  }
  await refused(host.writeFileAtomic(join(folder, 'n'.repeat(256)), new Uint8Array(1)), /the name is longer than the file system allows/);
  assert.is(readdirSync(folder).length, 2);
  mkdirSync(join(folder, 'in'));
  await refused(host.fileSource(join(folder, 'in')), /it is a folder, not a file/);
  if (process.platform === 'linux') await refused(host.fileSource('/dev/zero'), /it is a pipe or a device, not a file/);
});

test.run();
