/** `supir restore` where files cannot be written: a full disk, and one that is read-only. Nothing partial is left, and the next attempt starts clean. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { encodePng } from '../../image/encode.ts';
import { projectFile } from '../support/fixtures.ts';
import { skip } from '../support/skip.ts';
import { assertRefused, supir } from './run-cli.ts';

const test = suite('places that cannot be written to', { folder: '' });

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-disk-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

/** Mounts a small disk in memory, which only root may; null where that is refused. */
function smallDisk(path: string): { run(...args: string[]): void; free(): void } | null {
  mkdirSync(path);
  const run = (...args: string[]) => void execFileSync('mount', [...args, path], { stdio: 'ignore' });
  try {
    run('-t', 'tmpfs', '-o', 'size=16k', 'tmpfs');
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

test.run();
