import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeBF16, decodeF16, encodeF16, fromF8E4M3, fromF8E5M2, fromF16, toF16 } from '../../core/half.ts';

test('every f16 survives the way to f32 and back', () => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const back = encodeF16(decodeF16(bits));
  for (let i = 0; i < 65536; i++) {
    if ((i & 0x7fff) > 0x7c00) assert.is(back[i] & 0x7fff, 0x7e00, `NaN ${i}`);
    else assert.is(back[i], i);
  }
});

test('f16 values at the landmarks', () => {
  assert.is(fromF16(0x3c00), 1);
  assert.is(fromF16(0x0001), 2 ** -24);
  assert.is(fromF16(0x0400), 2 ** -14);
  assert.is(fromF16(0x7bff), 65504);
  assert.is(fromF16(0xfc00), Number.NEGATIVE_INFINITY);
  assert.ok(Object.is(fromF16(0x8000), -0));
});

test('rounding to f16 is to nearest, ties to even, at every midpoint', () => {
  for (let i = 0; i < 0x7bff; i++) {
    const low = fromF16(i);
    const middle = (low + fromF16(i + 1)) / 2; // exact in f32
    const even = i & 1 ? i + 1 : i;
    const nudge = middle * 2 ** -22;
    assert.is(toF16(middle), even, `tie above ${low}`);
    assert.is(toF16(middle - nudge), i, `below the tie above ${low}`);
    assert.is(toF16(middle + nudge), i + 1, `above the tie above ${low}`);
    assert.is(toF16(-middle), even | 0x8000);
  }
});

test('f16 overflows at 65520 and not before', () => {
  assert.is(toF16(65519.99), 0x7bff);
  assert.is(toF16(65520), 0x7c00);
  assert.is(toF16(1e30), 0x7c00);
  assert.is(toF16(-1e300), 0xfc00);
  assert.is(toF16(1e-40), 0);
  assert.is(toF16(-1e-9), 0x8000);
});

test('bf16 is the upper half of an f32', () => {
  assert.equal([...decodeBF16(Uint16Array.of(0x3f80, 0xc000, 0x7f80, 0x0001))], [1, -2, Number.POSITIVE_INFINITY, 2 ** -133]);
});

test('8-bit floats', () => {
  assert.equal([0x00, 0x01, 0x08, 0x38, 0x7e, 0xfe].map(fromF8E4M3), [0, 2 ** -9, 2 ** -6, 1, 448, -448]);
  assert.ok(Number.isNaN(fromF8E4M3(0x7f)) && Number.isNaN(fromF8E4M3(0xff)));
  assert.equal([0x01, 0x3c, 0x7b, 0x7c, 0xfc].map(fromF8E5M2), [2 ** -16, 1, 57344, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]);
  assert.ok(Number.isNaN(fromF8E5M2(0x7d)));
});

test.run();
