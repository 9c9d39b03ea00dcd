/** Strokes of the page's brush as a mask. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { maskOfStrokes } from '../../web/strokes.ts';

const SIZE = { width: 60, height: 40 };
const white = (x: number, y: number, mask: ReturnType<typeof maskOfStrokes>) => mask!.data[y * SIZE.width + x] === 255;

test('a stroke is white as wide as the brush, without gaps, and cut at the border', () => {
  assert.is(maskOfStrokes(SIZE, []), null);
  const mask = maskOfStrokes(SIZE, [{ points: [10, 20, 50, 20], radius: 4 }]);
  for (let x = 10; x <= 50; x++)
    assert.ok(white(x, 20, mask) && white(x, 18, mask) && !white(x, 26, mask) && !white(x, 14, mask), String(x));
  assert.not.ok(white(3, 20, mask) || white(57, 20, mask));
  const dot = maskOfStrokes(SIZE, [{ points: [0, 0], radius: 5 }]);
  assert.ok(white(1, 1, dot) && !white(6, 6, dot));
  const many = maskOfStrokes(SIZE, [
    { points: [5, 5], radius: 2 },
    { points: [50, 35], radius: 2 },
  ]);
  assert.ok(white(5, 5, many) && white(50, 35, many) && !white(30, 20, many));
});

test.run();
