/** sRGB and CIE L*a*b* of white D65. (IEC 61966-2-1; CIE 15) */

/** Linear sRGB to XYZ, each row divided by the white's, so that white is 1, 1, 1; and back. */
const WHITE = [0.95047, 1, 1.08883];
const TO_XYZ = [
  [0.4124564, 0.3575761, 0.1804375],
  [0.2126729, 0.7151522, 0.072175],
  [0.0193339, 0.119192, 0.9503041],
];
const TO_RGB = [
  [3.2404542, -1.5371385, -0.4985314],
  [-0.969266, 1.8760108, 0.041556],
  [0.0556434, -0.2040259, 1.0572252],
];
const EDGE = 6 / 29;

const linear = (v: number): number => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const curved = (v: number): number => (v <= 0.0031308 ? v * 12.92 : 1.055 * v ** (1 / 2.4) - 0.055);
const root = (t: number): number => (t > EDGE ** 3 ? Math.cbrt(t) : t / (3 * EDGE ** 2) + 4 / 29);
const power = (t: number): number => (t > EDGE ? t ** 3 : 3 * EDGE ** 2 * (t - 4 / 29));

/** L from 0 to 100, a, b of red, green, blue from 0 to 1. */
export function labOfRgb(r: number, g: number, b: number): [l: number, a: number, b: number] {
  const rgb = [linear(r), linear(g), linear(b)];
  const [x, y, z] = TO_XYZ.map((row, i) => root((row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2]) / WHITE[i]));
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

/** Red, green, blue of L, a, b; outside 0 to 1 where sRGB has no such colour, and 0 for less light than none. */
export function rgbOfLab(l: number, a: number, b: number): [r: number, g: number, b: number] {
  const y = (l + 16) / 116;
  const xyz = [power(y + a / 500) * WHITE[0], power(y) * WHITE[1], power(y - b / 200) * WHITE[2]];
  const [red, green, blue] = TO_RGB.map((row) => curved(Math.max(0, row[0] * xyz[0] + row[1] * xyz[1] + row[2] * xyz[2])));
  return [red, green, blue];
}
