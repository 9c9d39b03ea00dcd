/** ICC profiles: what kind one is, and profiles made of primaries and a curve. (ICC.1:2022) */
import { ascii, joinBytes } from './bytes.ts';

/** Chromaticities: x and y of white, red, green and blue. */
export type Chromaticities = readonly [white: Point, red: Point, green: Point, blue: Point];
type Point = readonly [x: number, y: number];

const D65: Point = [0.3127, 0.329];
/** ITU-R BT.709, and sRGB. */
export const SRGB_COLOURS: Chromaticities = [D65, [0.64, 0.33], [0.3, 0.6], [0.15, 0.06]];

/** The four letters of a profile's colour space, such as 'RGB ' or 'GRAY'; undefined if this is no profile. */
export function profileSpace(icc: Uint8Array): string | undefined {
  return icc.length >= 132 && letters(icc, 36) === 'acsp' ? letters(icc, 16) : undefined;
}

/**
 * An RGB profile in which equal values look as they do under this grey one: its curve with sRGB's primaries. Undefined where the grey one has no such
 * curve, or measures lightness with it.
 */
export function rgbProfileOfGrey(icc: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  const view = new DataView(icc.buffer, icc.byteOffset, icc.byteLength);
  if (letters(icc, 20) !== 'XYZ ') return undefined;
  const count = Math.min(view.getUint32(128), Math.floor((icc.length - 132) / 12));
  for (let i = 0, at = 132; i < count; i++, at += 12) {
    const [offset, length] = [view.getUint32(at + 4), view.getUint32(at + 8)];
    const curve = icc.subarray(offset, offset + length);
    if (letters(icc, at) === 'kTRC' && curve.length === length && ['curv', 'para'].includes(letters(curve, 0)))
      return rgbProfile(SRGB_COLOURS, curve);
  }
  return undefined;
}

/** A curve tag: v to v ** gamma. */
export const powerCurve = (gamma: number): Uint8Array<ArrayBuffer> => joinBytes(ascii('para\0\0\0\0\0\0\0\0'), numbers(gamma));

/** A curve tag: v to (a v + b) ** gamma from d on, c v below. */
export const splitCurve = (gamma: number, a: number, b: number, c: number, d: number): Uint8Array<ArrayBuffer> =>
  joinBytes(ascii('para\0\0\0\0\0\x03\0\0'), numbers(gamma, a, b, c, d));

/** An RGB profile of these primaries and one curve tag for all three. Undefined for primaries that span no colours. */
export function rgbProfile(colours: Chromaticities, curve: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
  const [white, ...primaries] = colours.map(xyz);
  const amounts = solve(primaries, white);
  const adapt = adaptation(white);
  const columns = primaries.map((primary, i) => adapt(primary.map((value) => value * amounts[i])));
  if (!columns.flat().every((value) => Math.abs(value) < 8)) return undefined; // NaN and infinity too
  const point = (of: number[]) => joinBytes(ascii('XYZ \0\0\0\0'), numbers(...of));
  const matrix = [0, 1, 2].map((i) => adapt([0, 1, 2].map((k) => (k === i ? 1 : 0))));
  const tags: [name: string, data: Uint8Array][] = [
    ['desc', text('RGB')],
    ['cprt', text('No copyright')],
    ['wtpt', point(D50)],
    ['chad', joinBytes(ascii('sf32\0\0\0\0'), numbers(...[0, 1, 2].flatMap((row) => matrix.map((column) => column[row]))))],
    ...columns.map((column, i): [string, Uint8Array] => [`${'rgb'[i]}XYZ`, point(column)]),
    ['rTRC', curve],
    ['gTRC', curve],
    ['bTRC', curve],
  ];
  return file(tags);
}

/** The profile file: header, table of tags, and their data, equal ones once. (sections 7.2 and 7.3) */
function file(tags: [name: string, data: Uint8Array][]): Uint8Array<ArrayBuffer> {
  const start = 128 + 4 + 12 * tags.length;
  const places = new Map<Uint8Array, number>();
  let body = new Uint8Array();
  for (const [, data] of tags) {
    if (places.has(data)) continue;
    places.set(data, start + body.length);
    body = joinBytes(body, data, new Uint8Array(-data.length & 3));
  }
  const table = tags.map(([name, data]) => joinBytes(ascii(name), big(places.get(data)!), big(data.length)));
  const header = joinBytes(
    big(start + body.length),
    [0, 0, 0, 0],
    big(0x04300000), // version 4.3
    ascii('mntrRGB XYZ '),
    [0x07, 0xe8, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0], // the first of January 2024, for a profile must have a date
    ascii('acsp'),
    new Uint8Array(28),
    numbers(...D50),
    new Uint8Array(48),
  );
  return joinBytes(header, big(tags.length), ...table, body);
}

/** White of the space in which profiles meet. */
const D50 = [0.9642, 1, 0.8249];

const xyz = ([x, y]: Point): number[] => [x / y, 1, (1 - x - y) / y];

/** The linear change of XYZ that takes a white to D50, in the cones' responses. (annex E.1: Bradford) */
function adaptation(white: number[]): (color: number[]) => number[] {
  const rows = [
    [0.8951, 0.2664, -0.1614],
    [-0.7502, 1.7135, 0.0367],
    [0.0389, -0.0685, 1.0296],
  ];
  const cones = (color: number[]) => rows.map((row) => row.reduce((sum, value, i) => sum + value * color[i], 0));
  const columns = [0, 1, 2].map((i) => rows.map((row) => row[i]));
  const [from, to] = [cones(white), cones(D50)];
  return (color) =>
    solve(
      columns,
      cones(color).map((response, i) => (response * to[i]) / from[i]),
    );
}

/** How much of each of three columns makes up the sum. (Cramer's rule) */
function solve(columns: number[][], sum: number[]): number[] {
  const volume = ([a, b, c]: number[][]) =>
    a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0]);
  return columns.map((_, i) => volume(columns.map((column, k) => (k === i ? sum : column))) / volume(columns));
}

function text(words: string): Uint8Array<ArrayBuffer> {
  const letters = [...words].flatMap((letter) => [0, letter.charCodeAt(0)]);
  return joinBytes(ascii('mluc\0\0\0\0'), big(1), big(12), ascii('enUS'), big(letters.length), big(28), letters);
}

const letters = (bytes: Uint8Array, at: number): string => String.fromCharCode(...bytes.subarray(at, at + 4));
const big = (value: number): number[] => [value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255];
/** Signed numbers with 16 bits behind the point. */
const numbers = (...values: number[]): Uint8Array<ArrayBuffer> => joinBytes(...values.map((value) => big(Math.round(value * 65536))));
