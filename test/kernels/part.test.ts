/** Tensors that lie one after the other in a tensor: computed there or copied, zeros between, and derivatives by parts. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { add, mul } from '../../kernels/binary.ts';
import { gradient } from '../../kernels/gradient.ts';
import { part, together } from '../../kernels/part.ts';
import { affine } from '../../kernels/unary.ts';
import { sampleOf, sampler } from '../../verify/sample.ts';
import { checkExact } from '../support/check.ts';

const draw = sampler(1);
/** f32 times two is exact. */
const [computed, given, halves] = [draw([5, 7]), draw([3, 11]), draw([13], { dtype: 'f16' })];

test('each has its elements, and the rest are zeros', async () => {
  const data = new Float64Array(320);
  data.set(
    computed.data.map((value) => 2 * value),
    128,
  );
  data.set(given.data, 0);
  data.set(halves.data, 192);
  const parts = [
    { first: 128, x: affine(computed.tensor, 2, 0) },
    { first: 0, x: given.tensor },
    { first: 192, x: halves.tensor },
  ];
  await checkExact('together', together(parts, [4, 80]), { shape: [4, 80], data });
  await checkExact('part', part(affine(together(parts, [4, 80]), 1, 0), 128, [7, 5]), { shape: [7, 5], data: data.slice(128, 163) });
});

test('derivatives by parts are laid where these lie, added where a part is read twice, and zero where none is', async () => {
  // Whole numbers, whose products and sums are exact.
  const whole = (shape: number[]) => sampleOf(draw(shape, { std: 9 }).data.map(Math.round), shape);
  const [x, u, f, g, h] = [whole([4, 64]), ...[1, 2, 3, 4].map(() => whole([8, 8]))];
  const at = (first: number) => part(x.tensor, first, [8, 8]);
  for (const [y, twice] of [
    [add(mul(at(64), f.tensor), mul(at(192), g.tensor)), 0],
    [add(add(mul(at(64), f.tensor), mul(at(192), g.tensor)), mul(at(64), h.tensor)), 1],
  ] as const) {
    const data = new Float64Array(256);
    data.set(
      f.data.map((value, i) => u.data[i] * (value + twice * h.data[i])),
      64,
    );
    data.set(
      g.data.map((value, i) => u.data[i] * value),
      192,
    );
    await checkExact('derivative', gradient(y, [x.tensor], { upstream: u.tensor })[0], { shape: [4, 64], data });
  }
});

test('what overlaps or begins elsewhere is refused', () => {
  const [a, b] = [draw([65]).tensor, draw([64]).tensor];
  for (const firsts of [
    [0, 64],
    [0, 130],
    [0, 192],
    [128, 128],
  ])
    assert.throws(
      () =>
        together(
          [a, b].map((x, i) => ({ first: firsts[i], x })),
          [192 + 63],
        ),
      (error: Error) => error instanceof ShapeError,
    );
});

test.run();
