/** windowAttention: windows of odd and even sides, shifted and not; heads in fours and not, narrow and wide. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { input } from '../../core/tensor.ts';
import { evaluate } from '../../gpu/program.ts';
import { relativeBias, windowAttention } from '../../kernels/window-attention.ts';
import * as reference from '../../verify/reference.ts';
import { sampler } from '../../verify/sample.ts';
import { check } from '../support/check.ts';
import { testDevice } from '../support/device.ts';

interface Case {
  map: [number, number, number];
  heads: number;
  width: number;
  window: number;
  shift?: number;
  blocked?: number;
}

const CASES: Case[] = [
  { map: [2, 4, 12], heads: 6, width: 30, window: 4, shift: 1 },
  { map: [1, 8, 4], heads: 2, width: 10, window: 4 },
  { map: [1, 12, 6], heads: 3, width: 12, window: 6, shift: 3, blocked: -1e30 },
  // One window that is all regions at once, and blocked scores that still count.
  { map: [3, 6, 6], heads: 4, width: 5, window: 6, shift: 2, blocked: -2 },
  { map: [1, 5, 15], heads: 3, width: 7, window: 5, shift: 3 },
];

// As attention's: a score is summed from `width` terms, a result from a window's keys; the bias adds one.
const accuracy = (width: number, tokens: number) => ({ terms: width + tokens + 1, ulps: 24 });

test('window attention against the plain formula', async () => {
  const draw = sampler(1);
  for (const { map, heads, width, window, shift = 0, blocked = -100 } of CASES) {
    const [qkv, bias] = [draw([...map, 3 * heads * width]), draw([heads, window ** 2, window ** 2])];
    const attrs = { heads, window, shift, blocked };
    const name = `window attention, ${map}, ${heads} heads of ${width}, windows of ${window} shifted by ${shift}`;
    const expected = reference.windowAttention(qkv, bias, attrs);
    await check(name, windowAttention(qkv.tensor, bias.tensor, attrs), expected, accuracy(width, window ** 2));
  }
});

test('the bias of a pair of pixels is the row of their relative position', async () => {
  const s = 3;
  const table = sampler(3)([(2 * s - 1) ** 2, 2]);
  const bias = await evaluate(await testDevice(), relativeBias(table.tensor, s));
  for (let head = 0; head < 2; head++)
    for (let query = 0; query < s * s; query++)
      for (let key = 0; key < s * s; key++) {
        const down = Math.floor(query / s) - Math.floor(key / s);
        const across = (query % s) - (key % s);
        assert.is(bias[(head * s * s + query) * s * s + key], Math.fround(table.data[((down + 2) * 5 + across + 2) * 2 + head]));
      }
});

test('shapes that do not fit are refused', () => {
  const attempt =
    (shape: number[], bias: number[], window = 4, shift = 2, heads = 2) =>
    () =>
      windowAttention(input('qkv', shape), input('bias', bias), { heads, window, shift, blocked: -100 });
  const refused = (make: () => unknown, ...words: string[]) =>
    assert.throws(make, (error: Error) => error instanceof ShapeError && words.every((word) => error.message.includes(word)));
  refused(attempt([1, 8, 8, 20], [2, 16, 16]), 'qkv (1, 8, 8, 20)', '2 heads');
  refused(attempt([1, 8, 6, 24], [2, 16, 16]), 'windows of 4', 'divide');
  refused(attempt([1, 8, 8, 24], [2, 16, 15]), 'bias must be f32 (2, 16, 16)');
  refused(attempt([1, 8, 8, 24], [2, 16, 16], 4, 4), 'shifted by 4');
  refused(attempt([1, 64, 64, 24], [2, 4096, 4096], 64, 2), 'at most 32');
});

test.run();
