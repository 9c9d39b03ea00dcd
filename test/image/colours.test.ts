/** What a file says of its colours goes along, in every format that is written. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { labColorFix, waveletColorFix } from '../../image/color-fix.ts';
import { decode } from '../../image/decode.ts';
import { encodeJpeg, encodePng } from '../../image/encode.ts';
import { profileSpace, rgbProfile, SRGB_COLOURS } from '../../image/icc.ts';
import type { FloatImage, Image } from '../../image/image.ts';
import { labOfRgb, rgbOfLab } from '../../image/lab.ts';
import { type PngChunk, profileChunk, readChunks } from '../../image/png-chunks.ts';
import { encodeWebp } from '../../image/webp.ts';
import { ascii, joinBytes, makePng, withSegment } from './make-files.ts';

const big = (...values: number[]): number[] =>
  values.flatMap((value) => [value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255]);
const chunk = (type: string, ...data: number[]): PngChunk => ({ type, data: Uint8Array.from(data) });
const gamma = (value: number) => chunk('gAMA', ...big(Math.round(value * 1e5)));
const points = (...values: number[]) => chunk('cHRM', ...big(...values.map((value) => Math.round(value * 1e5))));
const SRGB = [0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06];
const P3 = [0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06];

const read = (chunks: PngChunk[], color = 2): Promise<Image> =>
  decode(makePng({ width: 1, height: 1, depth: 8, color, rows: color === 2 ? [0, 7, 8, 9] : [0, 7], chunks }), 'x.png');

/** A tag of a profile, and its numbers with 16 bits behind the point from `at` on. */
function tag(icc: Uint8Array, name: string): Uint8Array {
  const view = new DataView(icc.buffer, icc.byteOffset, icc.byteLength);
  for (let at = 132; at < 132 + 12 * view.getUint32(128); at += 12)
    if (String.fromCharCode(...icc.subarray(at, at + 4)) === name)
      return icc.slice(view.getUint32(at + 4), view.getUint32(at + 4) + view.getUint32(at + 8));
  throw new Error(`no ${name}`);
}
const fixed = (bytes: Uint8Array, at: number) =>
  Array.from({ length: (bytes.length - at) >> 2 }, (_, i) => new DataView(bytes.buffer).getInt32(at + 4 * i) / 65536);
const near = (found: number[], expected: number[], off: number) => {
  assert.is(found.length, expected.length);
  for (const [i, value] of found.entries()) assert.ok(Math.abs(value - expected[i]) <= off, `${found}, not ${expected}`);
};
const curveOf = (icc: Uint8Array) => fixed(tag(icc, 'rTRC'), 12);

/** A grey profile with this curve tag. */
function greyProfile(curve: number[], space = 'XYZ '): Uint8Array {
  const start = 128 + 4 + 12;
  const bytes = joinBytes(new Uint8Array(128), big(1), ascii('kTRC'), big(start, curve.length), curve);
  for (const [at, text] of [
    [12, 'mntr'],
    [16, 'GRAY'],
    [20, space],
    [36, 'acsp'],
  ] as const)
    bytes.set(ascii(text), at);
  bytes.set(big(bytes.length), 0);
  bytes[8] = 4;
  return bytes;
}

test('profiles of primaries: sRGB and Display P3 as their published profiles have them', async () => {
  const columns = (icc: Uint8Array) => ['rXYZ', 'gXYZ', 'bXYZ'].flatMap((name) => fixed(tag(icc, name), 8));
  const srgb = rgbProfile(SRGB_COLOURS, new Uint8Array(16))!;
  near(columns(srgb), [0.43607, 0.22249, 0.01392, 0.38515, 0.71687, 0.09708, 0.14307, 0.06061, 0.7141], 3e-4);
  const { icc } = (await read([chunk('cICP', 12, 13, 0, 1)])).metadata!;
  near(columns(icc!), [0.51512, 0.2412, -0.00105, 0.29198, 0.69225, 0.04189, 0.1571, 0.06657, 0.78407], 3e-4);
  near(
    columns(icc!)
      .slice(0, 3)
      .map((x, i) => x + columns(icc!)[3 + i] + columns(icc!)[6 + i]),
    [0.9642, 1, 0.8249],
    1e-4,
  );
  assert.is(profileSpace(icc!), 'RGB ');
  near(curveOf(icc!), [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045], 2e-5);
  assert.is(
    rgbProfile(
      [
        [0.3, 0.3],
        [0.1, 0.1],
        [0.1, 0.1],
        [0.1, 0.1],
      ],
      new Uint8Array(16),
    ),
    undefined,
  );
});

test('gAMA, cHRM and cICP stay in a PNG and become a profile elsewhere', async () => {
  for (const chunks of [
    [gamma(1)],
    [gamma(0.55), points(...P3)],
    [points(...P3)],
    [chunk('cICP', 9, 1, 0, 1)],
    [chunk('cICP', 12, 13, 0, 1)],
  ]) {
    for (const color of [0, 2]) {
      const image = await read(chunks, color);
      assert.is(image.note, undefined);
      const png = readChunks(encodePng(image), 'x').chunks;
      for (const each of chunks) assert.equal(png.find(({ type }) => type === each.type)?.data, each.data);
      assert.not(png.some(({ type }) => type === 'iCCP'));
      assert.equal((await decode(encodePng(image), 'x')).metadata, image.metadata);
      const { icc } = image.metadata!;
      assert.is(profileSpace(icc!), 'RGB ');
      for (const file of [encodeJpeg(image, 90), await encodeWebp(image, 90)]) assert.equal((await decode(file, 'x')).metadata, { icc });
    }
  }
  near(curveOf((await read([gamma(1 / 1.8)])).metadata!.icc!), [1.8], 2e-4);
});

test('what sRGB files say for readers that know no better needs no profile', async () => {
  for (const chunks of [[gamma(0.45455)], [gamma(0.45455), points(...SRGB)], [points(...SRGB)]]) {
    const { metadata } = await read(chunks);
    assert.equal(metadata, { colourChunks: chunks });
  }
  assert.not('metadata' in (await read([chunk('sRGB', 0), gamma(0.6), points(...P3)])));
  assert.equal((await read([chunk('cICP', 1, 13, 0, 1), gamma(0.6)])).metadata, { colourChunks: [chunk('cICP', 1, 13, 0, 1)] });
});

test('the best description counts: cICP, iCCP, sRGB, then gAMA with cHRM', async () => {
  const icc = rgbProfile(SRGB_COLOURS, Uint8Array.from([...ascii('para'), ...big(0, 0, 0x20000)]))!;
  assert.equal((await read([profileChunk(icc), chunk('sRGB', 0), gamma(1)])).metadata, { icc });
  assert.equal((await read([gamma(1), profileChunk(icc), chunk('cICP', 12, 13, 0, 1)])).metadata?.colourChunks, [
    chunk('cICP', 12, 13, 0, 1),
  ]);
});

test('what a profile cannot say stays in a PNG, with a note', async () => {
  for (const code of [
    [9, 16, 0, 1],
    [9, 18, 0, 1],
    [12, 13, 0, 0],
    [2, 2, 0, 1],
  ]) {
    const image = await read([chunk('cICP', ...code)]);
    assert.equal(image.metadata, { colourChunks: [chunk('cICP', ...code)] });
    assert.match(image.note!, /known to PNG only/);
  }
});

test('descriptions that make no sense are left out with a note', async () => {
  for (const chunks of [
    [gamma(0)],
    [chunk('gAMA', 1)],
    [points(...P3.slice(0, 4))],
    [points(...new Array(8).fill(0))],
    [gamma(1), points(...new Array(8).fill(0.3))],
  ]) {
    const image = await read(chunks);
    assert.not('metadata' in image);
    assert.match(image.note!, /makes no sense/);
  }
});

test('a grey profile becomes an RGB profile with its curve', async () => {
  const curves = [
    [...ascii('curv'), ...big(0, 1), 1, 0xcd], // gamma 1.8
    [...ascii('curv'), ...big(0, 4), 0, 0, 10, 0, 90, 0, 255, 255],
    [...ascii('para'), ...big(0, 0, 0x1c000)],
    [...ascii('curv'), ...big(0, 0)],
  ];
  for (const curve of curves) {
    const icc = greyProfile(curve);
    const png = await read([profileChunk(icc)], 0);
    const grey = await decode(makePng({ width: 1, height: 1, depth: 8, color: 4, rows: [0, 7, 90], chunks: [profileChunk(icc)] }), 'x');
    for (const { metadata, note } of [png, grey]) {
      assert.is(note, undefined);
      for (const name of ['rTRC', 'gTRC', 'bTRC']) assert.equal([...tag(metadata!.icc!, name)], curve);
    }
    assert.equal([...png.data], [7, 7, 7]);
  }
});

test('profiles that do not fit are left out with a note', async () => {
  const note = /its colour profile does not fit or is damaged, and was left out; colours may be off/;
  const curve = [...ascii('curv'), ...big(0, 1), 2, 0];
  for (const [icc, color] of [
    [greyProfile(curve), 2],
    [greyProfile(curve, 'Lab '), 0],
    [greyProfile([...ascii('mft2'), 0, 0, 0, 0]), 0],
    [greyProfile(curve).fill(0, 36, 40), 0],
  ] as const) {
    const image = await read([profileChunk(icc)], color);
    assert.not('metadata' in image);
    assert.match(image.note!, note);
  }
  assert.match((await read([chunk('iCCP', 65, 0, 0, 1, 2, 3)])).note!, /colour profile is damaged and was left out/);
  const jpeg = encodeJpeg({ width: 8, height: 8, data: new Uint8Array(192).fill(99) }, 90);
  const withProfile = withSegment(jpeg, 0xe2, [...ascii('ICC_PROFILE\0'), 1, 1, ...greyProfile(curve)]);
  assert.match((await decode(withProfile, 'x')).note!, note);
});

test("L*a*b* of sRGB's corners, and back", () => {
  // Lindbloom's figures for D65, and libvips' of a brown
  for (const [rgb, lab] of [
    [
      [1, 1, 1],
      [100, 0, 0],
    ],
    [
      [0, 0, 0],
      [0, 0, 0],
    ],
    [
      [1, 0, 0],
      [53.2408, 80.0925, 67.2032],
    ],
    [
      [0, 1, 0],
      [87.7347, -86.1827, 83.1793],
    ],
    [
      [0, 0, 1],
      [32.297, 79.1875, -107.8602],
    ],
    [
      [0.5, 0.2, 0.02],
      [31.6455, 30.9792, 40.9036],
    ],
  ]) {
    const found = labOfRgb(rgb[0], rgb[1], rgb[2]);
    for (let c = 0; c < 3; c++) {
      assert.ok(Math.abs(found[c] - lab[c]) < 0.02, `${rgb} ${found}`);
      assert.ok(Math.abs(rgbOfLab(...found)[c] - rgb[c]) < 1e-4);
    }
  }
});

test('the lab colour fix takes the histograms of colour from the style, and a fifth of that of lightness', () => {
  const picture = (seed: number) => {
    const data = Float32Array.from({ length: 24 * 18 * 3 }, (_, i) => 0.6 * Math.sin(i * seed) + 0.1 * Math.cos(i / 29));
    return { width: 24, height: 18, channels: 3, data };
  };
  const [content, style] = [picture(0.37), picture(0.11)];
  const plane = (x: FloatImage, c: number) =>
    Float64Array.from({ length: x.data.length / 3 }, (_, i) => {
      const [r, g, b] = x.data.subarray(3 * i, 3 * i + 3).map((value) => Math.min(1, Math.max(0, (value + 1) / 2)));
      return labOfRgb(r, g, b)[c];
    });
  const moved = waveletColorFix(content, style);
  const planes = (x: FloatImage) => [0, 1, 2].map((c) => plane(x, c));
  const [own, like] = [planes(moved), planes(style)];
  const matched = (from: Float64Array, to: Float64Array) =>
    from.map((value) => to.slice().sort()[from.filter((each) => each < value).length]);
  const l = matched(own[0], like[0]).map((value, i) => 0.8 * own[0][i] + 0.2 * value);
  const [a, b] = [matched(own[1], like[1]), matched(own[2], like[2])];
  const fixed = labColorFix(content, style);
  for (let i = 0; i < l.length; i++)
    rgbOfLab(l[i], a[i], b[i]).forEach((value, c) => {
      assert.ok(Math.abs(fixed.data[3 * i + c] - (2 * Math.min(1, value) - 1)) < 1e-4);
    });
  const same = labColorFix(style, style);
  same.data.forEach((value, i) => {
    assert.ok(Math.abs(value - Math.min(1, Math.max(-1, style.data[i]))) < 1e-4);
  });
  assert.throws(() => labColorFix({ ...content, channels: 1 }, style), /3 channels, this one has 1/);
});

test.run();
