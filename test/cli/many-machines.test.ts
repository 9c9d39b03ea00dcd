/** Albums that several processes share: parts by path, claims, and logs joined. All in one process; docs/cluster.md tells how it was tried on Slurm. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Claims } from '../../cli/claims.ts';
import { photoFiles } from '../../cli/photo-files.ts';
import { mergeLogs } from '../../cli/report.ts';
import { parseShard, shardOf } from '../../cli/shard.ts';
import { UserError } from '../../core/errors.ts';
import { thisProcess } from '../../host/node-owner.ts';

const test = suite('many machines', { folder: '' });
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-many-'));
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

test('--shard by number, by Slurm and by Kubernetes', () => {
  assert.equal(parseShard('2/8', {}), { index: 2, count: 8 });
  const array = { SLURM_ARRAY_TASK_ID: '7', SLURM_ARRAY_TASK_MIN: '5', SLURM_ARRAY_TASK_COUNT: '4' };
  assert.equal(parseShard('auto', array), { index: 3, count: 4 });
  assert.equal(parseShard('auto', { ...array, SLURM_ARRAY_TASK_ID: '9', SLURM_ARRAY_TASK_STEP: '2' }), { index: 3, count: 4 });
  // One task of four that is submitted again is an array of one: the number of parts is given then.
  const again = { SLURM_ARRAY_TASK_ID: '2', SLURM_ARRAY_TASK_MIN: '2', SLURM_ARRAY_TASK_COUNT: '1' };
  assert.equal(parseShard('auto/4', again), { index: 3, count: 4 });
  assert.equal(parseShard('auto', { SLURM_PROCID: '1', SLURM_NTASKS: '2' }), { index: 2, count: 2 });
  assert.equal(parseShard('auto/6', { JOB_COMPLETION_INDEX: '0' }), { index: 1, count: 6 });
  assert.equal(parseShard('auto', { JOB_COMPLETION_INDEX: '5', JOB_COMPLETIONS: '6' }), { index: 6, count: 6 });
  const refused = (text: string, environment: Record<string, string>, says: RegExp) =>
    assert.throws(
      () => parseShard(text, environment),
      (error: unknown) => error instanceof UserError && says.test(error.message),
    );
  for (const text of ['0/8', '9/8', 'auto/0', 'auto/', '/8', '2/', 'auto/2/8', '1.5/2', '', '1/2000000'])
    refused(text, {}, /It must be i\/n/);
  refused('auto', {}, /auto finds no task/);
  refused('auto', { JOB_COMPLETION_INDEX: '1' }, /give auto\/n, with n as the completions/);
  refused('auto/3', { JOB_COMPLETION_INDEX: '3' }, /JOB_COMPLETION_INDEX does not lie within 3 parts/);
  refused('auto', { SLURM_ARRAY_TASK_ID: 'x' }, /SLURM_ARRAY_TASK_ID is x; it must be a whole number/);
  refused('auto/3', { SLURM_ARRAY_TASK_ID: '2', SLURM_ARRAY_TASK_STEP: '2' }, /an array without steps/);
});

test('each photo falls to one part, by its path in the album, and photos that are added move none', ({ folder }) => {
  const album = join(folder, 'album');
  mkdirSync(join(album, 'inner'), { recursive: true });
  const add = (name: string) => writeFileSync(join(album, name), '');
  for (let i = 0; i < 40; i++) add(`${i % 3 ? '' : 'inner/'}${i}.jpg`);
  const parts = (named: string) =>
    [1, 2, 3].map((index) => {
      const placing = { output: join(folder, 'out'), recursive: true, nameTemplate: '{name}', format: 'png', shard: { index, count: 3 } };
      return photoFiles([named], placing).photos.map(({ key }) => key);
    });
  const before = parts(album);
  assert.equal(
    before.flat().sort(),
    before
      .flat()
      .filter((key, i, all) => all.indexOf(key) === i)
      .sort(),
  );
  assert.is(before.flat().length, 40);
  assert.ok(
    before.every((part) => part.length >= 5),
    `${before.map((part) => part.length)}`,
  );
  assert.ok(before.flat().includes('inner/3.jpg'));
  for (let i = 0; i < 9; i++) add(`A${i}.png`);
  parts(album).forEach((part, i) => {
    assert.equal(
      part.filter((key) => !key.startsWith('A')),
      before[i],
    );
  });
  assert.is(shardOf('inner/3.jpg', 1000), 472); // as every version has it
});

test('of many that want a photo one gets it; what is done, failed or given back is told', async ({ folder }) => {
  const claimers = Array.from({ length: 8 }, () => new Claims(join(folder, 'claims')));
  const keys = Array.from({ length: 12 }, (_, i) => `photo ${i}.jpg`);
  const taken = await Promise.all(claimers.map((claims) => Promise.all(keys.map((key) => claims.take(key)))));
  for (const [i] of keys.entries()) assert.is(taken.filter((each) => each[i] === null).length, 1, keys[i]);
  assert.is(readdirSync(join(folder, 'claims')).length, 12); // and nothing temporary
  const owner = claimers[taken.findIndex((each) => each[0] === null)];
  const other = claimers.find((each) => each !== owner)!;
  assert.is(await other.take(keys[0]), 'restoring');
  await owner.failed(keys[0], 'no photo');
  assert.is(await other.take(keys[0]), 'failed');
  for (const claims of claimers) await claims.close();
  assert.is(await other.take(keys[1]), null);
  await other.done(keys[1]);
  await other.close();
  assert.is(readdirSync(join(folder, 'claims')).length, 1); // of the one that failed
});

test('a claim of a dead process is taken over at once, of a silent machine when it has lapsed, by one', async ({ folder }) => {
  const [first] = [new Claims(folder)];
  await first.take('a.jpg');
  const [name] = readdirSync(folder);
  const path = join(folder, name);
  const claim = JSON.parse(readFileSync(path, 'utf8'));
  const left = (more: object, seconds: number) => {
    writeFileSync(path, JSON.stringify({ ...claim, ...more }));
    const at = Date.now() / 1000 - seconds;
    utimesSync(path, at, at);
  };
  const race = async () => {
    const claimers = Array.from({ length: 6 }, () => new Claims(folder));
    const taken = await Promise.all(claimers.map((claims) => claims.take('a.jpg')));
    return taken.filter((each) => each === null).length;
  };
  left({ began: thisProcess.began + 1 }, 0); // the number is another process's by now
  if (thisProcess.began > 0) assert.is(await race(), 1);
  left({ machine: '00000000' }, 100);
  assert.is(await race(), 0);
  left({ machine: '00000000' }, 200);
  assert.is(await race(), 1);
  left({ machine: '00000000', failed: 'no photo' }, 200);
  assert.is(await race(), 1);
  writeFileSync(path, 'cut off');
  assert.is(await race(), 0);
  utimesSync(path, 1, 1);
  assert.is(await race(), 1);
  // One who died while taking over.
  left({ machine: '00000000' }, 200);
  writeFileSync(`${path}.taking`, 'x');
  utimesSync(`${path}.taking`, 1, 1);
  assert.is(await race(), 0);
  assert.is(await race(), 1);
  assert.equal(readdirSync(folder), [name]);
});

test('a claim is renewed while its owner works', async ({ folder }) => {
  const claims = new Claims(folder, 0.36);
  await claims.take('a.jpg');
  const path = join(folder, readdirSync(folder)[0]);
  utimesSync(path, 1, 1);
  for (let tries = 0; statSync(path).mtimeMs < 2000; tries++) {
    assert.ok(tries < 200, 'it was not renewed');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await claims.close();
  assert.equal(readdirSync(folder), []);
});

test('logs are joined: the last restoration counts, failures where there is none, and what is missing is told', () => {
  const line = (photo: string, more: object = {}) =>
    JSON.stringify({ input: `album/${photo}`, output: `out/${photo}.png`, photo, seconds: 2, ...more });
  const logs = [
    [line('a.jpg'), line('b.jpg', { error: 'no photo' }), line('c.jpg', { error: 'lost' }), '{"input": "cut'].join('\n'),
    [line('c.jpg'), line('a.jpg', { seconds: 3 }), JSON.stringify({ input: 'old.jpg', output: 'old.png' }), ''].join('\n'),
  ];
  const { lines, ...merged } = mergeLogs(logs, ['a.jpg', 'b.jpg', 'c.jpg', 'd.jpg']);
  assert.equal(merged, {
    restored: 3,
    twice: ['a.jpg'],
    failed: [{ photo: 'b.jpg', error: 'no photo' }],
    missing: ['d.jpg'],
    damaged: 1,
    seconds: 7,
  });
  assert.equal(
    lines.map(({ photo, input, seconds }) => [photo ?? input, seconds]),
    [
      ['a.jpg', 3],
      ['b.jpg', 2],
      ['c.jpg', 2],
      ['old.jpg', undefined],
    ],
  );
});

test.run();
