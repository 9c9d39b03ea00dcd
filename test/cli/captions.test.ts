/** Captions beside photos in every encoding, of bounded size, and photos under every ending that photos have. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { photoFiles } from '../../cli/photo-files.ts';
import { encodeJpeg } from '../../image/encode.ts';
import { createImage } from '../../image/image.ts';
import { readPngText } from '../../image/png-chunks.ts';
import { parseRecipe, RECIPE_KEYWORD } from '../../restore/recipe.ts';
import { supir } from './run-cli.ts';

const test = suite('captions and endings', { folder: '' });

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-captions-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

const jpeg = encodeJpeg(createImage(32, 32), 90);
const utf16 = (text: string) =>
  Uint8Array.from([0xfe, 0xff, ...Array.from({ length: text.length }, (_, i) => [0, text.charCodeAt(i)]).flat()]);

test('a folder is searched for every ending of photos', ({ folder }) => {
  const names = ['a.jfif', 'b.JPE', 'c.mpo', 'd.webp', 'e.Png', 'f.jpeg', 'g.jpg', 'h.pjpeg', 'i.apng', 'j.jif', 'k.jfi', 'l.pjp'];
  for (const name of [...names, 'z.txt', 'z.jpg.part', 'jpg']) writeFileSync(join(folder, name), jpeg);
  const placing = { output: join(folder, 'out/'), nameTemplate: '{name}', format: 'png' };
  for (const named of [folder, join(folder, '*')])
    assert.equal(
      photoFiles([named], placing)
        .photos.map(({ input }) => basename(input))
        .sort(),
      names,
    );
  assert.is(photoFiles([folder], placing).photos[0].caption, join(folder, 'a.txt'));
});

test('captions reach the prompt in whichever encoding; one that is too long stops its photo alone', async ({ folder }) => {
  const album = join(folder, 'album');
  mkdirSync(album);
  for (const name of ['wide.jfif', 'latin.jpe', 'marked.jpg', 'long.jpg']) writeFileSync(join(album, name), jpeg);
  writeFileSync(join(album, 'wide.txt'), utf16('a café at night\r\n'));
  writeFileSync(join(album, 'latin.txt'), Uint8Array.from([0x61, 0x20, 0x63, 0x61, 0x66, 0xe9]));
  writeFileSync(join(album, 'marked.txt'), '\ufeffa house');
  writeFileSync(join(album, 'long.txt'), 'x'.repeat(2e6));
  const tiles = join(folder, 'tiles.txt');
  writeFileSync(tiles, '\ufeffleft\r\nright\r\n');
  const args = ['restore', album, '-o', join(folder, 'out'), '--stage1-only', '--tile-prompts', tiles];
  const { code, stderr } = await supir(args);
  assert.is(code, 1);
  assert.match(stderr, /long\.txt has 2000000 bytes, and a text here may have at most 65536/);
  const optionsOf = (name: string) => {
    const path = join(folder, 'out', `${name}.png`);
    return parseRecipe(readPngText(readFileSync(path), path)[RECIPE_KEYWORD], path).options;
  };
  assert.equal(
    ['wide', 'latin', 'marked'].map((name) => optionsOf(name).prompt),
    ['a café at night. ', 'a café. ', 'a house. '],
  );
  assert.equal(optionsOf('wide').tilePrompts, ['left. ', 'right. ']);
});

test.run();
