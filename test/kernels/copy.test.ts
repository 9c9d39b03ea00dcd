/** permute, slice, pad, upsampleNearest, concat, reshape and gatherRows: data moves, so every value must be exact. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { constant, input, type Tensor } from '../../core/tensor.ts';
import { concat, pad, permute, slice, upsampleNearest } from '../../kernels/copy.ts';
import { gatherRows } from '../../kernels/gather-rows.ts';
import { reshape } from '../../kernels/reshape.ts';
import * as reference from '../../verify/reference.ts';
import { sampler } from '../../verify/sample.ts';
import { checkExact } from '../support/check.ts';

function orders(axes: number[]): number[][] {
  return axes.length < 2 ? [axes] : axes.flatMap((axis) => orders(axes.filter((other) => other !== axis)).map((rest) => [axis, ...rest]));
}

test('permute: all 24 orders of four axes, and fewer axes', async () => {
  const draw = sampler(1);
  const x = draw([2, 3, 5, 4]);
  for (const order of orders([0, 1, 2, 3])) await checkExact(`permute, ${order}`, permute(x.tensor, order), reference.permute(x, order));
  const half = draw([3, 5, 7], { dtype: 'f16' });
  for (const order of [
    [0, 2, 1],
    [1, 0, 2],
    [2, 0, 1],
  ])
    await checkExact(`permute, f16 ${order}`, permute(half.tensor, order), reference.permute(half, order));
  const quads = draw([3, 5, 8], { dtype: 'f16' });
  await checkExact('permute, f16 in fours', permute(quads.tensor, [1, 0, 2]), reference.permute(quads, [1, 0, 2]));
});

test('slice: every axis, aligned and not', async () => {
  const x = sampler(2)([3, 5, 4, 12]);
  for (const [axis, start, end] of [
    [0, 1, 3],
    [1, 2, 3],
    [2, 1, 4],
    [3, 4, 12],
    [3, 3, 8],
    [3, 2, 10],
    [3, 11, 12],
  ])
    await checkExact(`slice, ${axis} ${start} ${end}`, slice(x.tensor, axis, start, end), reference.slice(x, axis, start, end));
  await checkExact('slice, last axis', slice(x.tensor, -1, 8, 12), reference.slice(x, 3, 8, 12));
});

test('pad: every side', async () => {
  const draw = sampler(3);
  const cases: [number[], [number, number][]][] = [
    [
      [2, 3, 5, 7],
      [
        [0, 0],
        [1, 0],
        [0, 2],
        [0, 0],
      ],
    ],
    [
      [2, 3, 5, 8],
      [
        [0, 1],
        [2, 0],
        [3, 1],
        [4, 4],
      ],
    ],
    [
      [3, 8],
      [
        [0, 0],
        [2, 2],
      ],
    ],
    [
      [3, 6],
      [
        [1, 2],
        [3, 1],
      ],
    ],
  ];
  for (const [shape, amounts] of cases) {
    const x = draw(shape);
    await checkExact(`pad, ${shape}`, pad(x.tensor, amounts), reference.pad(x, amounts));
  }
});

test('upsampleNearest', async () => {
  const draw = sampler(4);
  for (const [shape, factor] of [
    [[2, 3, 5, 4], 2],
    [[2, 3, 5, 7], 3],
    [[1, 1, 2, 8], 1],
  ] as const) {
    const x = draw(shape);
    await checkExact(`upsampleNearest, ${shape}`, upsampleNearest(x.tensor, factor), reference.upsampleNearest(x, factor));
  }
});

test('concat: every axis, widths that are multiples of four and not, three at once, f16 among them', async () => {
  const draw = sampler(5);
  for (let axis = 0; axis < 4; axis++) {
    for (const sizes of [
      [8, 4],
      [3, 8, 5],
      [4, 1],
    ]) {
      const parts = sizes.map((size, i) => draw([2, 3, 5, 4].with(axis, size), { dtype: i === 1 ? 'f16' : 'f32' }));
      const joined = concat(
        parts.map((part) => part.tensor),
        axis,
      );
      await checkExact(`concat, ${axis} of ${sizes}`, joined, reference.concat(parts, axis));
    }
  }
  const parts = [draw([3, 8]), draw([3, 4])];
  await checkExact('concat, last', concat([parts[0].tensor, parts[1].tensor]), reference.concat(parts, 1));
});

test('reshape is a view, of computed tensors too', async () => {
  const x = sampler(6)([3, 4, 5]);
  await checkExact('reshape', reshape(x.tensor, [5, 12]), { shape: [5, 12], data: x.data });
  const turned = reference.permute(x, [2, 0, 1]);
  const view = reshape(permute(x.tensor, [2, 0, 1]), [15, 4]);
  await checkExact('reshape of permute', view, { shape: [15, 4], data: turned.data });
  await checkExact('slice of reshape', slice(view, 0, 7, 9), reference.slice({ shape: [15, 4], data: turned.data }, 0, 7, 9));
});

test('gatherRows: repeated rows, both widths, f16; a row out of range reads the last', async () => {
  const draw = sampler(7);
  const indices = [4, 0, 4, 2, 1, 3, 3];
  for (const x of [draw([5, 7]), draw([5, 8]), draw([5, 12], { dtype: 'f16' })]) {
    const index = constant(Uint32Array.from(indices), [7]);
    await checkExact('gatherRows', gatherRows(x.tensor, index), reference.gatherRows(x, indices));
    await checkExact('gatherRows beyond', gatherRows(x.tensor, constant(Uint32Array.of(4_000_000_000), [1])), reference.gatherRows(x, [4]));
  }
});

test('impossible moves are refused by name', () => {
  const x = input('image', [2, 3, 5, 4]);
  const refused = (make: () => Tensor, ...words: string[]) =>
    assert.throws(make, (error: Error) => error instanceof ShapeError && words.every((word) => error.message.includes(word)));
  refused(() => permute(x, [0, 1, 2]), 'permute', 'image (2, 3, 5, 4)');
  refused(() => permute(x, [0, 1, 2, 2]), 'permute', '(0, 1, 2, 2)');
  refused(() => slice(x, 1, 2, 4), 'slice', '[2, 4)', 'image (2, 3, 5, 4)');
  refused(() => slice(x, 1, 2, 2), 'slice');
  refused(() => slice(x, 4, 0, 1), 'slice', 'axis 4');
  refused(() => pad(x, [[0, 0]]), 'pad', 'image');
  refused(
    () =>
      pad(x, [
        [0, 0],
        [0, -1],
        [0, 0],
        [0, 0],
      ]),
    'pad',
    'image',
  );
  refused(() => reshape(x, [7, 17]), 'reshape', 'image (2, 3, 5, 4)', '(7, 17)');
  refused(() => concat([x, input('other', [2, 3, 6, 5])]), 'concat', 'image (2, 3, 5, 4)', 'other (2, 3, 6, 5)');
  refused(() => concat([x, x], 4), 'concat', 'axis 4');
  refused(() => upsampleNearest(input('tokens', [2, 3, 4]), 2), 'upsampleNearest', 'tokens');
  refused(() => upsampleNearest(x, 1.5), 'upsampleNearest', '1.5');
  refused(() => gatherRows(input('table', [5, 4]), input('index', [3])), 'gatherRows', 'table (5, 4)', 'index');
  refused(() => permute(input('deep', [1, 2, 3, 4, 5]), [4, 3, 2, 1, 0]), 'permute', 'deep');
});

test.run();
