/** A model folder's config.json: what it may say, and that what is beyond any model is refused at once. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { parseConfig, parseModelFiles, SUPIR_SDXL } from '../../models/config.ts';
import { Supir } from '../../models/supir.ts';
import { inBounds } from '../support/bounds.ts';
import { projectFile } from '../support/fixtures.ts';

const demo = JSON.parse(new TextDecoder().decode(await projectFile('demo/config.json')));

/** The demo's, with one entry changed. */
function changed(path: string, value: unknown): unknown {
  const json = structuredClone(demo);
  const keys = path.split('.');
  const last = keys.pop()!;
  keys.reduce((at, key) => at[key], json)[last] = value;
  return json;
}

function refuses(work: () => unknown, expected: RegExp): void {
  try {
    work();
  } catch (error) {
    assert.instance(error, UserError);
    assert.match((error as Error).message, expected);
    return;
  }
  assert.unreachable(`expected ${expected}`);
}

/** Paths of all numbers, and of lists of them. */
function numbersIn(value: unknown, path: string[] = []): string[] {
  if (typeof value === 'number' || (Array.isArray(value) && value.every((each) => typeof each === 'number'))) return [path.join('.')];
  return typeof value === 'object' && value !== null ? Object.entries(value).flatMap(([key, each]) => numbersIn(each, [...path, key])) : [];
}

const sizes = numbersIn(demo).filter((path) => /^(vae|unet|text|image_multiple|min_size)/.test(path));

test('the published model and the demo are within the bounds', () => {
  parseConfig(SUPIR_SDXL, 'config.json');
  parseConfig(demo, 'config.json');
  assert.ok(sizes.length > 30);
});

test('every size is refused where it is no size, or beyond any model, before anything is built of it', async () => {
  for (const path of sizes) {
    const value = path.split('.').reduce((at, key) => at[key], demo);
    const wrong = [1e6, 1e9, 1e15, 1e308, -1, 1.5, '1', null, {}, [], true];
    for (const each of Array.isArray(value)
      ? [...wrong.map((number) => [number, ...value.slice(1)]), 7, [], new Array(1e5).fill(1)]
      : wrong) {
      const work = async () => refuses(() => new Supir(parseConfig(changed(path, each), 'config.json')), /^config\.json: '/);
      if (path.endsWith('vocab') && each === 1e6) continue; // a table may be as long
      if (path === 'vae.scale_factor' && each === 1.5) continue;
      await inBounds(work, { seconds: 1, megabytes: 100 });
    }
  }
});

test('numbers that are allowed by themselves make no more blocks together than any model has', async () => {
  const json = structuredClone(demo);
  const levels = json.unet.channel_mult.length;
  Object.assign(json.unet, { num_res_blocks: 16, transformer_depth: new Array(levels).fill(100), middle_depth: 100 });
  refuses(() => parseConfig(json, 'config.json'), /'unet\.transformer_depth' must be at most 1000 blocks in all/);
  Object.assign(json.unet, { transformer_depth: new Array(levels).fill(Math.floor(900 / 33 / levels)), middle_depth: 100 });
  Object.assign(json.vae, { num_res_blocks: 16 });
  for (const tower of ['tower1', 'tower2']) json.text[tower].layers = 200;
  const largest = parseConfig(json, 'config.json');
  await inBounds(() => void new Supir(largest), { seconds: 5, megabytes: 500 });
});

test('a layer that there is not, and tokens beyond the tables', () => {
  refuses(() => parseConfig(changed('text.tower1.layer_index', demo.text.tower1.layers), 'config.json'), /layer_index' must be below/);
  refuses(() => parseConfig(changed('text.tower2.eot', demo.text.tower2.vocab), 'config.json'), /below the vocabularies/);
});

test('files are named by plain names within the folder, each another', () => {
  assert.equal(parseModelFiles(demo, 'config.json'), demo.files);
  for (const key of ['sdxl', 'supir', 'tokenizer']) {
    for (const name of [
      '../x',
      '../../x/tokenizer.json',
      '/etc/passwd',
      'a/b',
      'a\\b',
      'C:x',
      '..',
      '.',
      '',
      ' a',
      'a ',
      'NUL',
      7,
      null,
      ['a'],
      undefined,
    ])
      refuses(() => parseModelFiles(changed(`files.${key}`, name), 'config.json'), new RegExp(`^config\\.json: 'files\\.${key}' is `));
    refuses(() => parseModelFiles(changed(`files.${key}`, 'Config.JSON'), 'config.json'), /which is this file itself too/);
  }
  refuses(() => parseModelFiles(changed('files.tokenizer', demo.files.sdxl.toUpperCase()), 'config.json'), /which is 'files\.sdxl' too/);
  for (const json of [null, [], {}, { files: null }, { files: [] }])
    refuses(() => parseModelFiles(json, 'config.json'), /'files\.sdxl' is undefined/);
});

test.run();
