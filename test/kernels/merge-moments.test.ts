/** mergeMoments: parts of different sizes, far apart in mean, one alone, and with the means' spread left out. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { input } from '../../core/tensor.ts';
import { mergeMoments } from '../../kernels/merge-moments.ts';
import * as reference from '../../verify/reference.ts';
import { type Sample, sampleOf, sampler } from '../../verify/sample.ts';
import { check } from '../support/check.ts';

function merged(parts: Sample, pixels: Sample, between: boolean) {
  const [, n, groups] = parts.shape;
  const total = pixels.data.reduce((sum, count) => sum + count, 0);
  const weighted = (of: (part: number) => number) => pixels.data.reduce((sum, count, part) => sum + (count / total) * of(part), 0);
  return reference.build([n, groups, 2], ([image, group, which]) => {
    const value = (part: number, i: number) => reference.at(parts, [part, image, group, i]);
    const mean = weighted((part) => value(part, 0));
    if (which === 0) return mean;
    return weighted((part) => value(part, 1) + (between ? (value(part, 0) - mean) ** 2 : 0));
  });
}

test('moments of parts become those of the whole', async () => {
  const draw = sampler(1);
  for (const [t, n, groups] of [
    [1, 1, 5],
    [2, 3, 7],
    [67, 1, 33],
    [701, 2, 3],
  ]) {
    const drawn = draw([t, n, groups, 2]);
    // Variances are positive; some parts lie far from the others.
    const parts = sampleOf(
      drawn.data.map((value, i) => (i % 2 ? value * value : value + (i % 10 ? 0 : 100))),
      drawn.shape,
    );
    const pixels = sampleOf(
      draw([t]).data.map((value) => 1 + Math.floor(1000 * value * value)),
      [t],
    );
    for (const between of [true, false])
      await check(
        `mergeMoments, ${t} parts of ${n} x ${groups}`,
        mergeMoments(parts.tensor, pixels.tensor, { between }),
        merged(parts, pixels, between),
        {
          terms: t,
          ulps: 8,
        },
      );
  }
});

test('shapes that do not fit are refused', () => {
  assert.throws(() => mergeMoments(input('parts', [2, 1, 3, 2]), input('pixels', [3])), /mergeMoments/);
  assert.throws(() => mergeMoments(input('parts', [2, 3, 2]), input('pixels', [2])), /mergeMoments/);
});

test.run();
