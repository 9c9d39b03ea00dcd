/** Photos in pieces: what is outside regions and masks stays bit for bit, edges fade, faces are laid over the whole, and what cannot be is refused. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { host } from '../../host/node.ts';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import type { Image } from '../../image/image.ts';
import { checkMask, createMask, feathered, fillBox, fillEllipse, type Mask, maskOf, partsOf } from '../../image/mask.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { fits, parseText } from '../../options/schema.ts';
import { chooseOptions } from '../../restore/choose-options.ts';
import { facesChosen } from '../../restore/faces.ts';
import { OPTIONS, type RestoreOptions } from '../../restore/options.ts';
import { divide } from '../../restore/pieces.ts';
import { compareRecipes } from '../../restore/recipe.ts';
import { Restorer } from '../../restore/restorer.ts';
import { SUPIR } from '../../restore/supir.ts';
import type { SamplerStep } from '../../sampler/sampler.ts';
import { projectFile } from '../support/fixtures.ts';

const demo = new URL('../../demo', import.meta.url).pathname;
const [WIDTH, HEIGHT] = [160, 128];
const base = { steps: 1, cfg: 1, cfgStart: 1, minSize: 64, feather: 4 };
/** Without sampling, where that makes no difference. */
const quick = { ...base, stage1Only: true };
let restorer: Restorer;
let photo: Image;

test.before(async () => {
  restorer = await Restorer.load(host, demo);
  photo = crop(await decode(await projectFile('demo/photos/astronaut-noisy.jpg'), 'astronaut'), 40, 10, WIDTH, HEIGHT);
});
test.after(async () => {
  await restorer.close();
  assert.is(restorer.device.memory.buffers, 0);
});

/** Whether a pixel is another than the photo's. */
type Samples = { data: Uint8Array | Uint16Array };
const isChanged = (image: Samples, x: number, y: number, scale = 1) =>
  [0, 1, 2].some((c) => image.data[(y * WIDTH + x) * 3 + c] !== photo.data[(y * WIDTH + x) * 3 + c] * scale);

/** Pixels changed within and outside of a mask. */
function changes(image: Samples, { data }: Mask, scale = 1) {
  let [inside, outside] = [0, 0];
  for (let i = 0; i < WIDTH * HEIGHT; i++) {
    if (!isChanged(image, i % WIDTH, Math.floor(i / WIDTH), scale)) continue;
    if (data[i] > 0) inside++;
    else outside++;
  }
  return { inside, outside };
}

test('a region is restored in its place, and every sample outside is the photo’s own, also with 16 bits', async () => {
  const region = ['20,30,40,32', '104,90,56,38'];
  const mask = createMask(WIDTH, HEIGHT);
  for (const box of [
    { x: 20, y: 30, width: 40, height: 32 },
    { x: 104, y: 90, width: 56, height: 38 },
  ])
    fillBox(mask, box);
  const seen: string[] = [];
  const shares: number[] = [];
  const result = await restorer.restore(
    photo,
    { ...quick, region },
    {
      piece: ({ what, number, count }) => void seen.push(`${what} ${number} of ${count}`),
      progress: ({ share }) => void shares.push(share),
    },
  );
  assert.equal([result.image.width, result.image.height], [WIDTH, HEIGHT]);
  assert.equal(seen, ['region 1 of 2', 'region 2 of 2']);
  for (const [i, share] of shares.entries()) assert.ok(i === 0 || share >= shares[i - 1] - 1e-9, `${shares[i - 1]} before ${share}`);
  assert.ok(Math.abs(shares[shares.length - 1] - 1) < 1e-6);
  for (const [image, scale] of [
    [result.image, 1],
    [result.stage1, 1],
    [result.deep(), 257],
  ] as const) {
    const { inside, outside } = changes(image, mask, scale);
    assert.is(outside, 0);
    assert.ok(inside > 0.9 * (40 * 32 + 56 * 38), `${inside} changed`);
  }
  // The network saw some of what lies around it, enlarged.
  const { box } = divide(SUPIR, restorer.model.config, photo, result.options, null).pieces[0];
  assert.ok(box.width > 40 && box.width < WIDTH && result.working.height >= 64);
});

test('a region is what the restored part is, where the edge has faded in', async () => {
  const given = { ...quick, region: ['40,32,80,64'], feather: 0 };
  const { image, options } = await restorer.restore(photo, given);
  const [{ box }] = divide(SUPIR, restorer.model.config, photo, options, null).pieces;
  const part = await restorer.restore(crop(photo, box.x, box.y, box.width, box.height), quick);
  const [x, y] = [40 - box.x, 32 - box.y];
  assert.equal(crop(image, 40, 32, 80, 64).data, crop(part.image, x, y, 80, 64).data);
});

test('a mask restores what is white, is in the recipe, and a run that was stopped goes on with it', async () => {
  const mask = createMask(WIDTH, HEIGHT);
  fillEllipse(mask, { x: 10, y: 10, width: 40, height: 50 });
  fillEllipse(mask, { x: 100, y: 70, width: 44, height: 40 });
  const given = { ...base, steps: 2 };
  const whole = await restorer.restore(photo, given, { mask });
  assert.equal([changes(whole.image, mask).outside, changes(whole.image, mask).inside > 1500], [0, true]);
  const folder = mkdtempSync(join(tmpdir(), 'supir-pieces-'));
  let pieces = 0;
  const stop = {
    piece: () => void pieces++,
    step({ step }: SamplerStep) {
      if (pieces === 2 && step === 1) throw new Error('killed');
    },
  };
  await restorer.restore(photo, given, { mask, state: folder, ...stop }).then(
    () => assert.unreachable(),
    (error) => assert.is(error.message, 'killed'),
  );
  // The device is lost in the second piece this time.
  let steps = 0;
  const again = await restorer.restore(photo, given, {
    mask,
    state: folder,
    step: () => {
      if (++steps === 2) restorer.device.gpu.destroy();
    },
  });
  assert.equal(again.image.data, whole.image.data);
  assert.is(again.resumedAt, 1);
  await again.finished();
  assert.equal(readdirSync(folder), []);
  rmSync(folder, { recursive: true });
  assert.equal(compareRecipes(whole.recipe, again.recipe), []);
  const { mask: _, ...without } = again.recipe;
  assert.throws(() => compareRecipes(whole.recipe, without), /made with a mask, and now there is none/);
  assert.throws(() => compareRecipes(whole.recipe, { ...again.recipe, mask: { sha256: 'x' } }), /another mask/);
});

test('faces are laid over the restored whole with their own prompt, and found ones are in the recipe', async () => {
  const given = { ...quick, longSide: 96 };
  const whole = await restorer.restore(photo, given);
  const asked: Image[] = [];
  const found = [
    { x: 60, y: 30, width: 30, height: 36, score: 0.9 },
    { x: 500, y: 30, width: 30, height: 36, score: 0.9 },
  ];
  const findFaces = async (image: Image) => {
    asked.push(image);
    return found;
  };
  const result = await restorer.restore(photo, { ...given, faces: true }, { findFaces });
  assert.is(asked.length, 1);
  assert.equal(result.recipe.options.face, ['60,30,30,36']);
  assert.equal([result.image.width, result.image.height], [96, 77]);
  const at = (x: number, y: number) => (y * 96 + x) * 3;
  assert.is.not(result.image.data[at(45, 29)], whole.image.data[at(45, 29)], 'in the face');
  for (const [x, y] of [
    [2, 2],
    [90, 70],
  ])
    assert.is(result.image.data[at(x, y)], whole.image.data[at(x, y)], 'far from it');
  // From the recipe nobody is asked again.
  const again = await restorer.restore(photo, result.recipe.options, {});
  assert.equal(again.image.data, result.image.data);
  const { pieces } = divide(SUPIR, restorer.model.config, photo, result.options);
  assert.equal(
    pieces.map(({ what, options }) => [what, options.prompt]),
    [
      ['photo', ''],
      ['face', OPTIONS.facePrompt.default],
    ],
  );
});

test('where no face is found that is told, and a photo of which only faces count stays as it is', async () => {
  const told: string[] = [];
  const settings = { findFaces: async () => [], warning: ({ message }: { message: string }) => void told.push(message), name: 'hill.png' };
  const result = await restorer.restore(photo, { ...quick, facesOnly: true }, settings);
  assert.equal(result.image.data, photo.data);
  assert.equal(told, ['hill.png: no face was found, so nothing is changed.']);
  await restorer.restore(photo, { ...base, faces: true, stage1Only: true }, settings);
  assert.is(told[1], 'hill.png: no face was found.');
});

test('a thousand faces are bounded, the largest kept', () => {
  const faces = Array.from({ length: 1000 }, (_, i) => ({ x: i, y: 3, width: 1 + (i % 200), height: 10, score: 1 }));
  const { face, leftOut } = facesChosen(faces, { width: 2000, height: 50 });
  assert.equal([face.length, leftOut], [50, 950]);
  assert.ok(face.every((text) => Number(text.split(',')[2]) > 150));
  assert.equal(facesChosen([{ x: -5, y: -5, width: 10, height: 10, score: 1 }], { width: 50, height: 50 }).face, ['0,0,5,5']);
});

test('parts that lie apart are told apart, and edges fade inwards', () => {
  const mask = createMask(300, 200);
  fillBox(mask, { x: 10, y: 10, width: 20, height: 20 });
  fillBox(mask, { x: 40, y: 12, width: 20, height: 20 }); // near
  fillBox(mask, { x: 200, y: 150, width: 500, height: 20 }); // beyond the border
  assert.equal(
    partsOf(mask).map(({ box }) => box),
    [
      { x: 10, y: 10, width: 50, height: 22 },
      { x: 200, y: 150, width: 100, height: 20 },
    ],
  );
  const plane = new Uint8Array(40 * 30);
  for (let y = 5; y < 30; y++) plane.fill(255, y * 40 + 8, y * 40 + 32);
  const weight = feathered(plane, 40, 30, 6);
  assert.equal([weight[4 * 40 + 20], weight[5 * 40 + 20] > 0, weight[17 * 40 + 20]], [0, true, 255]);
  for (let y = 5; y < 11; y++) assert.ok(weight[y * 40 + 20] < weight[(y + 1) * 40 + 20], 'it rises');
  assert.is(weight[29 * 40 + 20], 255, 'the border of the plane is no edge');
  assert.equal(feathered(plane, 40, 30, 0), plane);
  const thin = new Uint8Array(40 * 30);
  thin.fill(255, 10 * 40, 11 * 40);
  assert.ok(feathered(thin, 40, 30, 100)[10 * 40 + 20] > 100, 'what is thin is not lost');
});

test('regions that lie outside, empty masks, masks of other sizes and what does not go together are refused', () => {
  const split = (given: Partial<RestoreOptions>, mask: Mask | null = null) =>
    divide(SUPIR, SUPIR_SDXL, { width: WIDTH, height: HEIGHT, name: 'a.png' }, chooseOptions(given, SUPIR_SDXL), mask);
  const refuses = (given: Partial<RestoreOptions>, why: RegExp, mask: Mask | null = null) => assert.throws(() => split(given, mask), why);
  refuses({ region: ['160,0,10,10'] }, /a\.png: the region 160,0,10,10 lies outside the photo, which has 160x128 pixels/);
  assert.match(split({ region: ['150,0,20,10'] }).notes[0].message, /goes beyond the photo/);
  refuses({ region: ['1,1,5,5'], upscale: 2 }, /restored in their place.*leave the option 'upscale' out/);
  refuses({ region: ['1,1,5,5'], size: '20x20' }, /'size'/);
  refuses({ facesOnly: true, longSide: 20 }, /'longSide'/);
  refuses({ faces: true, tilePrompts: ['a'] }, /'tilePrompts'/);
  const mask = createMask(WIDTH, HEIGHT);
  refuses({}, /black all over/, mask);
  refuses({}, /The mask has 128x160 pixels and the photo 160x128/, createMask(HEIGHT, WIDTH));
  fillBox(mask, { x: 3, y: 3, width: 3, height: 3 });
  refuses({ megapixels: 1 }, /'megapixels'/, mask);
  const speckled = createMask(2000, 2000);
  for (let y = 0; y < 2000; y += 100) for (let x = 0; x < 2000; x += 100) speckled.data[y * 2000 + x] = 255;
  assert.throws(
    () => divide(SUPIR, SUPIR_SDXL, { width: 2000, height: 2000 }, chooseOptions({}, SUPIR_SDXL), speckled),
    /400 parts that lie apart, and at most 100/,
  );
  for (const bad of ['1,2,3', '1,2,3,0', '-1,2,3,4', '1.5,2,3,4', '1,2,3,4,5']) assert.not.ok(fits(OPTIONS.region, [bad]), bad);
  assert.equal(parseText(OPTIONS.region, '1,2,3,4; 5,6,7,8'), ['1,2,3,4', '5,6,7,8']);
  assert.throws(() => parseText(OPTIONS.region, '1,2,3'), /parts of a picture as x,y,width,height/);
  const picture = { width: 2, height: 1, data: Uint8Array.of(255, 255, 255, 255, 255, 255), alpha: Uint8Array.of(255, 0) };
  assert.equal([...maskOf(picture).data], [255, 0]);
  checkMask(maskOf(picture), picture);
});

test('the forecast of pieces is of all of them', () => {
  const whole = restorer.forecast(photo, base);
  const parts = restorer.forecast(photo, { ...base, region: ['0,0,20,20', '120,90,20,20'] });
  const [part] = parts.stages;
  assert.is(part.runs, 2);
  assert.match(parts.why[0], /in 2 pieces/);
  assert.equal(parts.result, { width: WIDTH, height: HEIGHT });
  const faces = restorer.forecast(photo, { ...base, face: ['60,30,30,36'] });
  assert.ok(faces.gflop > whole.gflop && faces.peakGpuBytes >= whole.peakGpuBytes);
  assert.ok(restorer.forecast(photo, { ...base, facesOnly: true }).gflop > 0);
});

test.run();
