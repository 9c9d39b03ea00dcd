/** A folder of photos as training data: captions, buckets, crops, degraded counterparts, the cache, and folders that are not what they should be. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import { crop } from '../../image/compose.ts';
import { drawDegradation } from '../../image/degrade.ts';
import { encodePng } from '../../image/encode.ts';
import { createImage, type Image } from '../../image/image.ts';
import { resize } from '../../image/resize.ts';
import { bucketOf, cutsOf, type DataEncoder, type DataOptions, loadImages } from '../../train/data.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { refused } from '../support/refused.ts';

function photo(width: number, height: number, seed: number): Image {
  const image = createImage(width, height);
  const noise = new TorchRandom(seed).rand(image.data.length);
  image.data.set(noise.map((value) => Math.floor(value * 256)));
  return image;
}

/** Latents that are means of 8 x 8 blocks; counts what it is asked for. */
class FakeEncoder implements DataEncoder {
  identity = 'fake';
  asked: string[] = [];

  async latent({ width, height, data }: Image, which: 'encoder' | 'denoise_encoder') {
    this.asked.push(which);
    const [w, h] = [width / 8, height / 8];
    const mean = new Float32Array(w * h);
    for (let i = 0; i < width * height; i++) mean[Math.floor(i / width / 8) * w + Math.floor((i % width) / 8)] += data[3 * i] / 64;
    return { shape: [h, w, 1], mean, deviation: new Float32Array(w * h).fill(0.1) };
  }

  async text(caption: string) {
    return { context: Float32Array.of(caption.length, 1), vector: Float32Array.of(2) };
  }
}

/** The column at which `part`, of full height, begins in `whole`. */
function reducedAt(whole: Image, part: Image): number {
  const columns = Array.from({ length: whole.width - part.width + 1 }, (_, x) => x);
  return columns.find((x) => crop(whole, x, 0, part.width, part.height).data.join() === part.data.join()) ?? 0;
}

const options: DataOptions = { size: 32, multiple: 8, seed: 1 };

function folder(): MemoryFiles {
  const files = new MemoryFiles();
  files.files.set('photos/a.png', encodePng(photo(40, 40, 1)));
  files.files.set('photos/a.txt', new TextEncoder().encode(' a lake\n'));
  files.files.set('photos/b.PNG', encodePng(photo(90, 40, 2)));
  files.files.set('photos/b.txt', new TextEncoder().encode('two'));
  files.files.set('photos/notes.md', new Uint8Array(3));
  return files;
}

test('images with captions, in buckets of their shape', async () => {
  const images = await loadImages(folder(), 'photos', 'cache', new FakeEncoder(), options);
  assert.equal(
    images.map(({ name, shape, context }) => [name, [...shape], context[0]]),
    [
      ['a.png#0', [4, 4, 1], 6],
      ['b.PNG#0', [2, 6, 1], 3],
    ],
  );
  assert.equal(bucketOf(1, 512, 64), { width: 512, height: 512 });
  assert.equal(bucketOf(16 / 9, 512, 64), { width: 640, height: 384 });
  assert.equal(bucketOf(0.01, 512, 64), { width: 256, height: 1024 });
});

test('crops are squares of the photo itself, at other places', () => {
  const image = photo(70, 50, 3);
  const cuts = cutsOf(image, new TorchRandom(1), { ...options, crops: 4 });
  assert.is(cuts.length, 4);
  for (const { width, height, data } of cuts) {
    assert.equal([width, height], [32, 32]);
    const first = [...data.subarray(0, 96)].join();
    const rows = Array.from({ length: 50 * 70 }, (_, i) => [...image.data.subarray(3 * i, 3 * i + 96)].join());
    assert.ok(rows.includes(first), 'its first row is one of the photo');
  }
  assert.ok(new Set(cuts.map(({ data }) => data.join())).size > 1);
  const reduced = cutsOf(image, new TorchRandom(1), { ...options, crops: 1, shortSide: 32 })[0];
  const half = resize(image, 45, 32, 'bicubic'); // 70 x 50 at a short side of 32
  assert.equal(reduced, crop(half, reducedAt(half, reduced), 0, 32, 32), 'of the photo at the size that was asked for');
  assert.equal(cutsOf(photo(20, 10, 4), new TorchRandom(1), { ...options, crops: 1 })[0].width, 32, 'a small one is enlarged');
});

test('degraded counterparts go through the other encoder, and differ', async () => {
  const encoder = new FakeEncoder();
  const images = await loadImages(folder(), 'photos', 'cache', encoder, {
    ...options,
    degradation: { blur: [1, 3], noise: 20, jpeg: [30, 60] },
  });
  assert.equal(encoder.asked, ['encoder', 'denoise_encoder', 'encoder', 'denoise_encoder']);
  for (const { mean, hint } of images) assert.ok(hint!.length === mean.length && hint!.some((value, i) => Math.abs(value - mean[i]) > 0.5));
  const drawn = Array.from({ length: 50 }, (_, seed) => drawDegradation(new TorchRandom(seed), { blur: [1, 3], jpeg: [30, 60], scale: 4 }));
  assert.ok(
    drawn.every(({ blur, jpeg, scale }) => blur! >= 1 && blur! <= 3 && Number.isInteger(jpeg) && jpeg! >= 30 && jpeg! <= 60 && scale === 4),
  );
  assert.ok(new Set(drawn.map(({ blur }) => blur)).size > 40);
});

test('what was encoded is kept, until image, caption, model or settings change', async () => {
  const files = folder();
  const encoder = new FakeEncoder();
  const load = (changed: Partial<DataOptions> = {}) => loadImages(files, 'photos', 'cache', encoder, { ...options, ...changed });
  const first = await load({ degradation: { blur: 2 } });
  assert.is(encoder.asked.length, 4);
  assert.equal(await load({ degradation: { blur: 2 } }), first, 'every value is the same');
  assert.is(encoder.asked.length, 4);
  await load({ size: 40, degradation: { blur: 2 } });
  assert.is(encoder.asked.length, 8);
  files.files.set('photos/a.txt', new TextEncoder().encode('another'));
  await load({ degradation: { blur: 2 } });
  assert.is(encoder.asked.length, 10, 'only the one whose caption changed');
  encoder.identity = 'other model';
  await load({ degradation: { blur: 2 } });
  assert.is(encoder.asked.length, 14);
});

test('what is missing is said by name', async () => {
  const encoder = new FakeEncoder();
  await refused(loadImages(new MemoryFiles(), 'photos', 'cache', encoder, options), /photos holds no images/);
  const files = folder();
  files.files.delete('photos/b.txt');
  await refused(loadImages(files, 'photos', 'cache', encoder, options), /1 of 2 images have no caption: b\.PNG/);
  assert.is((await loadImages(files, 'photos', 'cache', encoder, { ...options, caption: '' })).length, 2);
  await refused(loadImages(files, 'photos', 'cache', encoder, { ...options, size: 33, caption: '' }), /size 33 must be a multiple of 8/);
  files.files.set('photos/b.PNG', new Uint8Array([0x89, 0x50, 0x4e, 0x47, 1, 2, 3]));
  await refused(loadImages(files, 'photos', 'cache', encoder, { ...options, caption: '' }), /b\.PNG/);
});

test.run();
