/** The latent-to-RGB map of previews: fitted to pictures that are linear in their latent, it gives them back. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import type { Image } from '../../image/image.ts';
import { LatentPreview, previewEvents } from '../../restore/preview.ts';

const test = suite('preview');

/** A latent (1, 6, 10, 4) and the picture (1, 48, 80, 3) whose pixels are, by blocks of 8, a linear map of it. */
function linearPair() {
  const [h, w, z, f] = [6, 10, 4, 8];
  const random = new TorchRandom(1);
  const latent = random.randn(h * w * z);
  const map = Array.from({ length: z + 1 }, (_, k) => [0, 1, 2].map((c) => 0.05 * Math.sin(1 + 3 * k + c)));
  const data = new Float32Array(h * f * w * f * 3);
  for (let i = 0; i < data.length; i++) {
    const [c, x, y] = [i % 3, Math.floor(i / 3) % (w * f), Math.floor(i / (3 * w * f))];
    const at = (Math.floor(y / f) * w + Math.floor(x / f)) * z;
    data[i] = map[z][c] + map.slice(0, z).reduce((sum, row, k) => sum + row[c] * latent[at + k], 0);
  }
  return { map, latent: { data: latent, shape: [1, h, w, z] }, image: { data, shape: [1, h * f, w * f, 3] } };
}

test('the fit finds a linear map', () => {
  const { map, latent, image } = linearPair();
  const { weights } = LatentPreview.fit(latent, image);
  for (const [i, value] of map.flat().entries())
    assert.ok(Math.abs(weights[i] - value) < 1e-4, `weight ${i} is ${weights[i]}, not ${value}`);
});

test('a plain picture and a latent of zeros give a plain picture', () => {
  const latent = { data: new Float32Array(2 * 3 * 4), shape: [1, 2, 3, 4] };
  const image = { data: new Float32Array(16 * 24 * 3).fill(0.5), shape: [1, 16, 24, 3] };
  const picture = LatentPreview.fit(latent, image).picture(latent.data);
  assert.equal([picture.width, picture.height], [24, 16]);
  assert.ok(
    picture.data.every((byte) => byte === 191),
    `${picture.data[0]}`,
  );
});

test('the listeners hand out stage 1 and then each step, in the size of the picture', async () => {
  const { latent, image } = linearPair();
  const written: [string, Image][] = [];
  const events = previewEvents((name, picture) => void written.push([name, picture]));
  const step = { steps: 120, sigma: 1, sigmaHat: 1, cfg: 1, controlScale: 1, latent: latent.data };
  await events.step({ ...step, step: 1, denoised: latent.data }); // before stage 1 there is nothing to map with
  await events.picture('stage1', image, latent);
  await events.step({ ...step, step: 7, denoised: latent.data });
  await events.step({ ...step, step: 8, denoised: latent.data.map((value) => -value) });
  assert.equal(
    written.map(([name]) => name),
    ['stage1', 'step-007', 'step-008'],
  );
  for (const [name, picture] of written) assert.equal([picture.width, picture.height], [80, 48], name);
  // The centre of a block of equal pixels is that pixel, up to the cubic's reach into its neighbours.
  const [stage1, same, other] = written.map(([, { data }]) => data);
  const far = (a: Uint8Array, b: Uint8Array) => a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length;
  assert.ok(far(stage1, same) < 4, `${far(stage1, same)} levels between the picture and its preview`);
  assert.ok(far(stage1, other) > 8, `${far(stage1, other)} levels to the preview of another latent`);
});

test.run();
