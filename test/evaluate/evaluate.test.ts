/** Comparing methods: pairs, pictures, measures, intervals and tables, and what is refused. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import { type EvaluatedMethod, type EvaluateOptions, evaluateMethods, makePair, type Row } from '../../evaluate/evaluate.ts';
import { figure } from '../../evaluate/figure.ts';
import { BICUBIC } from '../../evaluate/methods.ts';
import { estimate, studentT95 } from '../../evaluate/statistics.ts';
import { csv, markdown, summarize } from '../../evaluate/tables.ts';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { degrade } from '../../image/degrade.ts';
import { encodePng } from '../../image/encode.ts';
import { createImage, type Image } from '../../image/image.ts';
import { psnr, ssim } from '../../image/metrics.ts';
import { gmsd, noiseLevel, sharpness } from '../../image/sharpness.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { refused } from '../support/refused.ts';

function photo(width: number, height: number, seed: number): Image {
  const image = createImage(width, height);
  image.data.set(new TorchRandom(seed).rand(image.data.length).map((value) => Math.floor(value * 256)));
  return image;
}

test("Student's t as in the tables", () => {
  for (const [freedom, t] of [
    [1, 12.7062],
    [2, 4.3027],
    [7, 2.3646],
    [30, 2.0423],
    [1000, 1.9623],
  ])
    assert.ok(Math.abs(studentT95(freedom) - t) < 1e-4, `${freedom}: ${studentT95(freedom)}`);
});

test('19 of 20 intervals hold the true mean', () => {
  const random = new TorchRandom(1);
  let held = 0;
  for (let i = 0; i < 400; i++) {
    const { mean, margin } = estimate([...random.randn(3)].map((value) => 5 + 2 * value));
    if (Math.abs(mean - 5) <= margin!) held++;
  }
  assert.ok(held > 366 && held < 394, `${held} of 400`); // 380 expected, standard deviation 4.4
  assert.equal(estimate([3]), { mean: 3, margin: null, count: 1 });
});

const options: EvaluateOptions = { degradation: { blur: 1, noise: [5, 20] }, seed: 3, crop: 0, multiple: 16, now: () => 0 };

test('a pair is the middle of the photo, cut to multiples, and the same damaged', () => {
  const image = photo(70, 41, 1);
  const { truth, damaged } = makePair(image, 'x', 0, options);
  assert.equal(truth, crop(image, 3, 4, 64, 32));
  assert.ok(psnr(truth, damaged) < 30);
  assert.equal(makePair(image, 'x', 0, options).damaged, damaged, 'the same again');
  assert.not.equal(makePair(image, 'x', 1, options).damaged, damaged);
  const small = makePair(image, 'x', 0, { ...options, crop: 40, degradation: { blur: 2 } });
  assert.equal(small.truth, crop(image, 19, 4, 32, 32));
  assert.equal(small.damaged, degrade(small.truth, { blur: 2 }));
  assert.throws(() => makePair(photo(70, 15, 1), 'flat.png', 0, options), /flat\.png is 70x15/);
});

function folder(): MemoryFiles {
  const files = new MemoryFiles();
  for (const [i, name] of ['a', 'b', 'c'].entries()) files.files.set(`in/${name}.png`, encodePng(photo(40 + 16 * i, 36, i)));
  return files;
}
const photos = ['a', 'b', 'c'].map((name) => ({ name, path: `in/${name}.png`, prompt: '' }));

/** A method that knows the truth of photo a only. */
function knowing(files: MemoryFiles, events: string[] = []): EvaluatedMethod {
  return {
    name: 'knows a',
    open: async () => void events.push('open'),
    async restore(damaged, { name }) {
      events.push(name);
      return name === 'a' ? decode(files.files.get('out/truth/a.png')!, 'a') : damaged;
    },
    peak: () => 5_400_000,
    close: async () => void events.push('close'),
  };
}

test('pictures, measures, tables and a figure of two methods', async () => {
  const files = folder();
  const events: string[] = [];
  let time = 0;
  const { rows, stopped } = await evaluateMethods(files, 'out', photos, [BICUBIC, knowing(files, events)], {
    ...options,
    now: () => (time += 500),
    perceptual: async (a, b) => (a.data.join() === b.data.join() ? 0 : 1),
  });
  assert.equal([stopped, rows.length], [false, 6]);
  assert.equal(events, ['open', 'a', 'b', 'c', 'close']);
  const read = (path: string) => decode(files.files.get(`out/${path}.png`)!, path);
  const [truth, damaged] = [await read('truth/b'), await read('damaged/b')];
  const b = rows.find((row) => row.method === 'bicubic' && row.photo === 'b');
  assert.equal(b, {
    method: 'bicubic',
    photo: 'b',
    psnr: psnr(truth, damaged),
    psnrY: psnr(truth, damaged, 'y'),
    ssim: ssim(truth, damaged),
    msSsim: null,
    gmsd: gmsd(truth, damaged),
    lpips: 1,
    sharpness: sharpness(truth, damaged),
    noise: noiseLevel(damaged),
    seconds: 0.5,
    gpuMb: null,
  });
  assert.equal(await read('knows-a/c'), await read('damaged/c'));

  const [all, group] = summarize(rows, 'bicubic', { one: ['c'] });
  assert.equal(all.photos, ['a', 'b', 'c']);
  const { mean, difference } = all.methods[1];
  assert.is(mean.psnr!.mean, Number.POSITIVE_INFINITY, 'a perfect result');
  assert.ok(Math.abs(difference!.lpips!.mean + 1 / 3) < 1e-12);
  assert.ok(Math.abs(difference!.lpips!.margin! - 4.3027 / 3) < 1e-4, 'differences -1, 0, 0');
  assert.equal([group.photos, group.methods[1].difference!.ssim], [['c'], { mean: 0, margin: null, count: 1 }]);

  const text = markdown(rows, [all, group], 'bicubic');
  assert.match(text, /### all photos \(3: a, b, c\)/);
  assert.match(text, /\| knows a \| .*-0\.3333 ± 1\.4342 \| .*\| \+0\.00 ± 0\.00 \|/);
  assert.match(text, /\| s \/ photo ↓ \| GPU MB ↓ \|/);
  assert.match(text, /\| bicubic \| .*\| 0\.50 \| {2}\|\n\| knows a \| .*\| 5 \|\n/, 'what takes no GPU memory has none');
  assert.match(text, /### one \(1: c\)[\s\S]*\+0\.0000 ± unknown/);
  assert.not.match(text, /NaN|undefined/);
  const lines = csv(rows).trim().split('\n');
  assert.equal([lines.length, lines[0]], [7, 'method,photo,psnr,psnrY,ssim,msSsim,gmsd,lpips,sharpness,noise,seconds,gpuMb']);
  const picture = await figure(files, 'out', rows, ['a', 'c'], 32);
  assert.equal([picture.width, picture.height], [3 * 32 + 2 * 4, 13 + 32 + 4 + 13 + 16], 'a is 32 x 32, c 64 x 32');
});

test('what was done before an interruption counts, in tables of photos that all methods have', async () => {
  const files = folder();
  let asked = 0;
  const two: EvaluatedMethod = { ...BICUBIC, name: 'two' };
  const { rows, stopped } = await evaluateMethods(files, 'out', photos, [BICUBIC, two], { ...options, stopped: () => ++asked > 6 });
  assert.equal([stopped, rows.length], [true, 4]);
  assert.equal(summarize(rows, 'bicubic')[0].photos, ['a']);
});

test('what does not fit is refused, and nothing is left open', async () => {
  const files = folder();
  const events: string[] = [];
  const small: EvaluatedMethod = { ...knowing(files, events), name: 'small', restore: async () => photo(16, 16, 1) };
  await refused(evaluateMethods(files, 'out', photos, [small], options), /small: the result for a is 16x16, and the photo 32x32/);
  assert.equal(events, ['open', 'close']);
  await refused(evaluateMethods(files, 'out', [{ ...photos[0], path: 'in/z.png' }], [small], options), /in\/z\.png/);
  assert.equal(events, ['open', 'close'], 'found before any method ran');
  files.capacity = 0;
  await refused(evaluateMethods(files, 'out', photos, [small], options), /the disk is full/);
  const row: Row = {
    method: 'm',
    photo: 'a',
    psnr: 1,
    psnrY: 1,
    ssim: 1,
    msSsim: null,
    gmsd: 0,
    lpips: null,
    sharpness: 1,
    noise: 1,
    seconds: 1,
    gpuMb: null,
  };
  assert.throws(() => summarize([row], 'other'), /no method 'other'.*there are: m/);
  assert.throws(() => summarize([row], 'm', { g: ['q'] }), /'g' names photos that are not there: q/);
});

test.run();
