/** The demo's damaged photos are what the settings say: made again, they come out the same. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DEMO_PHOTOS, damagedPath, originalPath, PHOTO_FOLDER } from '../../scripts/demo-photos.ts';
import { damagedFile } from '../../scripts/make-demo-photos.ts';

test('every damaged photo is made again byte for byte', async () => {
  for (const photo of DEMO_PHOTOS)
    assert.equal(new Uint8Array(readFileSync(damagedPath(photo))), await damagedFile(photo), damagedPath(photo));
});

test('no photo lies about unused, and each has its source', () => {
  const used = new Set(DEMO_PHOTOS.flatMap((photo) => [originalPath(photo), damagedPath(photo)].map((path) => basename(path))));
  assert.equal(readdirSync(PHOTO_FOLDER).sort(), ['SOURCES.md', ...used].sort());
  const sources = readFileSync(`${PHOTO_FOLDER}/SOURCES.md`, 'utf8');
  for (const { name } of DEMO_PHOTOS) assert.match(sources, `| ${name} |`);
});

test.run();
