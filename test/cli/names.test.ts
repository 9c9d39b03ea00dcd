/** File names that people have: results bear them, are not taken for photos again, and nothing is written over a photo. */
import { existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { degradeCommand } from '../../cli/degrade.ts';
import { type Placing, photoFiles } from '../../cli/photo-files.ts';
import { checkSideFiles, sideFolders, sidePaths, writtenFiles } from '../../cli/side-files.ts';
import { encodePng } from '../../image/encode.ts';
import { createImage } from '../../image/image.ts';
import { RECIPE_KEYWORD } from '../../restore/recipe.ts';
import { refused } from '../support/refused.ts';

const test = suite('names of photos and results', { folder: '' });

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-names-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

const picture = encodePng(createImage(32, 32));
const result = encodePng(createImage(32, 32), { text: { [RECIPE_KEYWORD]: '{}' } });

function write(folder: string, paths: string[], bytes: Uint8Array = picture): void {
  for (const path of paths) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), bytes);
  }
}

const placing = (output: string, more: Partial<Placing> = {}): Placing => ({ output, nameTemplate: '{name}', format: 'png', ...more });

/** Inputs and outputs, relative to the folder. */
function found(folder: string, named: string[], given: Placing): { photos: [string, string][]; passedOver: string[] } {
  const { photos, passedOver } = photoFiles(named, given);
  const short = (path: string) => relative(folder, path);
  return { photos: photos.map(({ input, output }) => [short(input), short(output)]), passedOver: passedOver.map(short).sort() };
}

async function throws(work: () => unknown, message: RegExp): Promise<void> {
  await refused(
    Promise.resolve().then(() => work()),
    message,
  );
}

const NAMES = [
  'cost$$',
  'cost$',
  'x$&y',
  "q$'z",
  'b$`k',
  '$1',
  '$<name>',
  '{name}',
  'a.b.c',
  '[x]',
  'a*',
  '100%',
  '%2e%2e',
  ' blank',
  '-o',
  '#1',
  '日本',
  'e\u0301',
];

test('results bear the names of their photos, whatever signs these hold', async ({ folder }) => {
  const album = join(folder, 'in');
  write(
    album,
    NAMES.map((name) => `${name}.png`),
  );
  const expected = NAMES.map((name) => `${name}.png`).sort();
  const out = join(folder, 'out');
  const log = console.log;
  console.log = () => {};
  try {
    await degradeCommand().parseAsync([album, '-o', out, '--blur', '0'], { from: 'user' });
  } finally {
    console.log = log;
  }
  assert.equal(readdirSync(out).sort(), expected);
  const { photos } = photoFiles([album], placing(out, { nameTemplate: '{name}-$&-{name}' }));
  assert.equal(photos.map(({ output }) => output).sort(), NAMES.map((name) => join(out, `${name}-$&-${name}.png`)).sort());
  for (const name of NAMES) {
    const paths = sidePaths({ stage1: `${folder}/s/{name}.png`, report: `${folder}/{name}-{name}.json` }, join(out, `${name}.png`), out);
    assert.is(paths.stage1, `${folder}/s/${name}.png`);
    assert.is(paths.report, `${folder}/${name}-${name}.json`);
    assert.is(photoFiles([join(album, `${name}.png`)], placing(join(out, 'one.png'))).photos[0].caption, join(album, `${name}.txt`));
  }
  write(folder, ['photo']);
  assert.is(photoFiles([join(folder, 'photo')], placing(join(out, 'one.png'))).photos[0].caption, join(folder, 'photo.txt'));
});

test('names of full length are written; what would be too long is told before the work', async ({ folder }) => {
  const names = [238, 246, 255].map((bytes) => `${'n'.repeat(bytes - 4)}.png`);
  names.push(`${'日'.repeat(83)}.png`);
  write(join(folder, 'in'), names);
  const log = console.log;
  console.log = () => {};
  try {
    await degradeCommand().parseAsync([join(folder, 'in'), '-o', join(folder, 'out'), '--blur', '0'], { from: 'user' });
  } finally {
    console.log = log;
  }
  assert.equal(readdirSync(join(folder, 'out')).sort(), names.sort());
  const tooLong = /Cannot write .*: the name is longer than the file system allows/;
  await throws(() => photoFiles([join(folder, 'in')], placing(join(folder, 'new', 'out'), { nameTemplate: '{name}x' })), tooLong);
  await throws(() => photoFiles([join(folder, 'in')], placing(join(folder, 'out'), { format: 'webp' })), tooLong);
  const flags = { numSamples: 2, output: join(folder, 'o') };
  const { photos } = photoFiles([join(folder, 'in')], placing(flags.output));
  await throws(() => checkSideFiles(flags, photos, flags.output), tooLong);
});

test('results within the album are not restored again', ({ folder }) => {
  write(folder, ['album/a.png', 'album/deep/b.jpg', 'album/restored-of-old/c.png']);
  write(folder, ['album/restored/a.png', 'album/restored/deep/b.png', 'album/steps/x/step-01.png', 'album/s/a.png']);
  const album = join(folder, 'album');
  const given = placing(join(album, 'restored'), {
    recursive: true,
    folders: sideFolders({ preview: join(album, 'steps', '{name}'), stage1: join(album, 's', '{name}.png') }),
  });
  const expected = {
    photos: [
      ['album/a.png', 'album/restored/a.png'],
      ['album/deep/b.jpg', 'album/restored/deep/b.png'],
      ['album/restored-of-old/c.png', 'album/restored/restored-of-old/c.png'],
    ],
    passedOver: ['album/restored/a.png', 'album/restored/deep/b.png', 'album/s/a.png', 'album/steps/x/step-01.png'],
  };
  assert.equal(found(folder, [album], given), expected);
  symlinkSync(album, join(folder, 'link'));
  assert.equal(photoFiles([join(folder, 'link')], given).passedOver.length, 4, 'by a link too');
  assert.equal(found(folder, [join(album, '**', '*.png')], given).photos.length, 2, 'by a pattern too');
  assert.equal(found(folder, [join(album, 'restored')], placing(join(folder, 'again'))).photos.length, 1, 'unless they are named');
});

test('into the album itself: what carries a recipe, or is to stay, is a result', async ({ folder }) => {
  write(folder, ['album/a.jpg', 'album/b.jpg']);
  write(folder, ['album/a-new.png'], result);
  const album = join(folder, 'album');
  const given = placing(album, { nameTemplate: '{name}-new' });
  const photos = [
    ['album/a.jpg', 'album/a-new.png'],
    ['album/b.jpg', 'album/b-new.png'],
  ];
  assert.equal(found(folder, [album], given), { photos, passedOver: ['album/a-new.png'] });
  write(folder, ['album/b-new.png']);
  await throws(
    () => photoFiles([album], given),
    /Cannot write .*b-new\.png: it is one of the photos, and .*b\.jpg would be written over it/,
  );
  assert.equal(found(folder, [album], { ...given, skipExisting: true }), {
    photos,
    passedOver: ['album/a-new.png', 'album/b-new.png'],
  });
  write(folder, ['album/a.png'], result);
  assert.equal(found(folder, [join(album, 'a.*')], placing(album)).photos, [['album/a.jpg', 'album/a.png']]);
});

test('nothing is written over a photo, by whatever name', async ({ folder }) => {
  write(folder, ['a.png', 'b.png', 'in/a2.png', 'in/a.png']);
  const [a, b] = ['a.png', 'b.png'].map((name) => join(folder, name));
  symlinkSync(folder, join(folder, 'here'));
  symlinkSync(b, join(folder, 'soft.png'));
  linkSync(b, join(folder, 'hard.png'));
  const itself = /it is the photo itself/;
  for (const output of ['b.png', 'here/b.png', 'soft.png', 'hard.png', 'in/../b.png'])
    await throws(() => photoFiles([b], placing(join(folder, output))), itself);
  await throws(() => photoFiles([a, b], placing(folder)), itself);
  await throws(() => photoFiles([join(folder, 'in')], placing(join(folder, 'in'), { nameTemplate: '{name}2' })), /it is one of the photos/);
  const side = (flags: object) => {
    const all = { numSamples: 1, ...flags };
    return photoFiles([a, b], placing(join(folder, 'out'), { results: (photo) => writtenFiles(all, photo, join(folder, 'out')) }));
  };
  await throws(() => side({ stage1: join(folder, '{name}.png') }), itself);
  await throws(() => side({ compare: join(folder, 'here', 'b.png') }), /it is one of the photos, and .*a\.png/);
  assert.is(side({ stage1: join(folder, 's', '{name}.png') }).photos.length, 2);
  assert.not(existsSync(join(folder, 'out')));
  assert.equal(readFileSync(b), Buffer.from(picture));
});

test.run();
