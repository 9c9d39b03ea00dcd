/** `supir restore` where files cannot be written: a full disk, and one that is read-only. Nothing partial is left, and the next attempt starts clean. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LogFile } from '../../cli/log-file.ts';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { encodePng } from '../../image/encode.ts';
import { createImage } from '../../image/image.ts';
import { projectFile } from '../support/fixtures.ts';
import { skip } from '../support/skip.ts';
import { assertRefused, supir } from './run-cli.ts';

const test = suite('places that cannot be written to', { folder: '' });

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-disk-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

/** Mounts a small disk in memory, which only root may; null where that is refused. */
function smallDisk(path: string, size = '16k'): { run(...args: string[]): void; free(): void } | null {
  mkdirSync(path);
  const run = (...args: string[]) => void execFileSync('mount', [...args, path], { stdio: 'ignore' });
  try {
    run('-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs');
  } catch {
    return null;
  }
  return { run, free: () => execFileSync('umount', [path]) };
}

test('a full disk fails the photos it has no room for, a read-only one is seen before the work', async ({ folder }) => {
  const [disk, album] = ['disk', 'album'].map((name) => join(folder, name));
  const mounted = smallDisk(disk);
  if (!mounted) return skip('a small disk cannot be mounted here: that takes root and a system with tmpfs');
  try {
    const photo = await decode(await projectFile('demo/photos/astronaut-noisy.jpg'), 'astronaut');
    mkdirSync(album);
    writeFileSync(join(album, 'big.png'), encodePng(crop(photo, 0, 0, 224, 192)));
    writeFileSync(join(album, 'small.png'), encodePng(crop(photo, 96, 48, 32, 24)));
    const full = await supir(['restore', album, '-o', disk, '--stage1-only']);
    assert.is(full.code, 1, full.stderr);
    assert.match(full.stdout, /^1 restored, 1 failed, 0 skipped$/m);
    assert.match(full.stderr, /Cannot write .*big\.png: the disk is full\./);
    assert.equal(readdirSync(disk), ['small.png']);

    const state = await supir([
      'restore',
      join(album, 'big.png'),
      '-o',
      join(folder, 'out.png'),
      '--steps',
      '2',
      '--state',
      disk,
      '--quiet',
    ]);
    assertRefused(state, /Cannot write .*\.state\.safetensors: the disk is full\./, 'a full disk of states');
    assert.equal([readdirSync(disk), readdirSync(folder).sort()], [['small.png'], ['album', 'disk']]);

    mounted.run('-o', 'remount,ro');
    const locked = await supir(['restore', join(album, 'small.png'), '-o', join(disk, 'new', 'out.png')]);
    assertRefused(locked, /Cannot write .*out\.png: the folder .*disk may not be written to/, 'a read-only disk');
  } finally {
    mounted.free();
  }
});

test('a log that has no room keeps whole lines, is told of once, and ends no batch', async ({ folder }) => {
  const lines = (path: string) => readFileSync(path, 'utf8').split('\n').slice(0, -1);
  if (existsSync('/dev/full')) {
    const told: string[] = [];
    const log = new LogFile('/dev/full', (text) => told.push(text));
    for (let i = 0; i < 3; i++) log.append({ i });
    assert.is(log.lost, 3);
    assert.equal(told, ['Cannot write the log /dev/full: the disk is full. The work goes on; lines may be missing there.']);
  }
  const cut = join(folder, 'cut.jsonl');
  writeFileSync(cut, '{"whole":1}\n{"half');
  new LogFile(cut, assert.unreachable).append({ next: 1 });
  assert.equal(lines(cut), ['{"whole":1}', '{"half', '{"next":1}']);

  const disk = join(folder, 'disk');
  const mounted = smallDisk(disk, '40k');
  if (!mounted) return skip('a small disk cannot be mounted here: that takes root and a system with tmpfs');
  try {
    const path = join(disk, 'log.jsonl');
    const told: string[] = [];
    const log = new LogFile(path, (text) => told.push(text));
    for (let i = 0; i < 20; i++) log.append({ i, text: 'x'.repeat(3000) });
    assert.is(told.length, 1);
    assert.ok(log.lost > 0 && log.lost < 20, `${log.lost} lost`);
    assert.is(lines(path).length, 20 - log.lost);
    for (const line of lines(path)) assert.is(JSON.parse(line).text.length, 3000);

    const album = join(folder, 'album');
    mkdirSync(album);
    for (const name of ['a.png', 'b.png', 'c.png']) writeFileSync(join(album, name), encodePng(createImage(64, 64)));
    const run = await supir(['restore', album, '-o', join(folder, 'out'), '--stage1-only', '--log', path]);
    assert.is(run.code, 1, run.stderr);
    assert.equal(readdirSync(join(folder, 'out')), ['a.png', 'b.png', 'c.png']);
    assert.match(run.stdout, /^3 restored, 0 failed, 0 skipped$/m);
    assert.is(run.stderr.split('Cannot write the log').length, 2, run.stderr);
    assert.match(run.stderr, /The log .*log\.jsonl lacks \d of its lines; everything else was done\.$/m);
    for (const line of lines(path)) JSON.parse(line);
  } finally {
    mounted.free();
  }
});

test.run();
