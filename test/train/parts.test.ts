/** The parts of training by themselves: learning rate, loss weights, noise, and the loss curve. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import { learningRate } from '../../train/learning-rate.ts';
import { minSnrWeight, noisy, trainingNoise } from '../../train/loss.ts';
import { lossCurve } from '../../train/loss-curve.ts';

const near = (actual: number, expected: number, tolerance: number, what = '') =>
  assert.ok(Math.abs(actual - expected) <= tolerance, `${what} ${actual}, expected ${expected}`);

test('the learning rate warms up, and ends as a cosine does', () => {
  const options = { rate: 2, warmup: 4, decay: 'cosine', floor: 0.1 } as const;
  assert.equal(
    [0, 1, 2, 3].map((step) => learningRate(step, 14, options)),
    [0.5, 1, 1.5, 2],
  );
  near(learningRate(4, 14, options), 2, 1e-12);
  near(learningRate(9, 14, options), 2 * (0.1 + 0.9 / 2), 1e-12);
  near(learningRate(14, 14, options), 0.2, 1e-12);
  assert.is(learningRate(99, 14, { rate: 3 }), 3);
});

test('min-SNR weighs high signal less', () => {
  assert.is(minSnrWeight(0.1, null), 1);
  near(minSnrWeight(0.1, 5), 5 / 100, 1e-12, 'SNR 100');
  assert.is(minSnrWeight(2, 5), 1, 'SNR 1/4');
});

test('noise: offset moves whole channels of an image; the noisy image has the scale the networks see', () => {
  const shape = [2, 8, 8, 3];
  const [plain, shifted] = [0, 0.5].map((offset) => trainingNoise(new TorchRandom(2), shape, offset));
  const shifts = new Set<string>();
  for (let i = 0; i < plain.length; i++) shifts.add(`${Math.floor(i / 192)},${i % 3},${(shifted[i] - plain[i]).toFixed(4)}`);
  assert.is(shifts.size, 6, 'one shift for every channel of every image');
  const random = new TorchRandom(3);
  const [clean, noise] = [random.randn(4000), random.randn(4000)];
  const x = noisy(clean, noise, [0.3, 7]);
  near(x[10], (clean[10] + 0.3 * noise[10]) / Math.sqrt(1.09), 1e-6);
  near(x[3000], (clean[3000] + 7 * noise[3000]) / Math.sqrt(50), 1e-6);
  near(x.reduce((sum, v) => sum + v * v, 0) / 4000, 1, 0.1);
});

test('the loss curve is an SVG of as many points as steps, and none is no error', () => {
  const points = Array.from({ length: 50 }, (_, step) => ({ step, loss: 1 / (step + 1) }));
  const svg = lossCurve('a < b', points, [{ step: 10, loss: 0.2 }]);
  assert.match(svg, /a &lt; b/);
  assert.is(svg.match(/<polyline/g)!.length, 3);
  assert.is(/points="([^"]*)"/.exec(svg)![1].split(' ').length, 50);
  assert.not.match(svg, /NaN/);
  assert.not.match(lossCurve('', [], []), /NaN/);
});

test.run();
