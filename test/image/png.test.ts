/** PNG's structure: what libpng reads with a warning is read with a note, what it refuses is refused in words. Files are made here. */
import { PNG } from 'pngjs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decode } from '../../image/decode.ts';
import { encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { adler32 } from '../../image/inflate.ts';
import { PNG_SIGNATURE, type PngChunk, readChunks, writeChunk } from '../../image/png-chunks.ts';
import { refused } from '../support/refused.ts';
import { ascii, joinBytes, makePng, type RawPng } from './make-files.ts';

const chunk = (type: string, ...data: number[]): PngChunk => ({ type, data: Uint8Array.from(data) });
const file = (chunks: PngChunk[]) => joinBytes(PNG_SIGNATURE, ...chunks.map(writeChunk));
const chunksOf = (png: Uint8Array) => readChunks(png, 'x').chunks;
const read = (png: RawPng | PngChunk[]) => decode(Array.isArray(png) ? file(png) : makePng(png), 'x.png');

/** 3x2 pixels of RGB and a file of them. */
const ROWS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 11, 12, 13, 14, 15, 16, 17, 18, 19];
const PIXELS = ROWS.filter((value) => value > 0);
const PLAIN: RawPng = { width: 3, height: 2, depth: 8, color: 2, rows: ROWS };
const [HEADER, DATA, END] = chunksOf(makePng(PLAIN));

function sameWithNote(image: Image, note: RegExp): void {
  assert.equal([...image.data], PIXELS);
  assert.not(image.alpha);
  assert.match(image.note ?? '', note);
}

test('ancillary chunks that are damaged are left out with a note', async () => {
  for (const type of ['tEXt', 'pHYs', 'gAMA', 'tRNS', 'iCCP', 'eXIf', 'prVt']) {
    const spoilt = writeChunk(chunk(type, 0, 1, 0, 2, 0, 3));
    spoilt[spoilt.length - 1] ^= 1;
    const png = joinBytes(PNG_SIGNATURE, writeChunk(HEADER), spoilt, writeChunk(DATA), writeChunk(END));
    sameWithNote(await decode(png, 'x.png'), new RegExp(`left out: ${type} \\(wrong checksum\\); its pixels are whole`));
  }
  for (const at of [0, 1, 2]) {
    const parts = [HEADER, DATA, END].map(writeChunk);
    parts[at][parts[at].length - 1] ^= 1;
    await refused(decode(joinBytes(PNG_SIGNATURE, ...parts), 'x.png'), /x\.png: the PNG file is damaged in chunk/);
  }
});

test('data beyond the pixels are left out with a note', async () => {
  const beyond = /data beyond its pixels, or a wrong checksum/;
  const { data } = DATA;
  sameWithNote(await read({ ...PLAIN, rows: [...ROWS, 0, 9, 9, 9] }), beyond);
  sameWithNote(await read({ ...PLAIN, rows: [...ROWS, ...ROWS, ...ROWS] }), beyond);
  for (const rest of [[0], [1, 2, 3, 4], ascii('trailer'), new Array(50_000).fill(7)])
    sameWithNote(await read([HEADER, chunk('IDAT', ...data, ...rest), END]), beyond);
  sameWithNote(await read([HEADER, DATA, chunk('IDAT', 1, 2, 3, 4), END]), beyond);
  sameWithNote(await read([HEADER, chunk('IDAT', ...data.subarray(0, -1), data[data.length - 1] ^ 1), END]), beyond);
  for (const lost of [1, 4]) sameWithNote(await read([HEADER, chunk('IDAT', ...data.subarray(0, -lost)), END]), beyond);
  await refused(read([HEADER, chunk('IDAT', ...data.subarray(0, -5)), END]), /fewer pixels than its header says|zlib stream/);
});

test('a stream in pieces of any size, and large pictures with bytes behind them', async () => {
  for (const size of [1, 2, 7]) {
    const pieces = Array.from({ length: Math.ceil(DATA.data.length / size) }, (_, i) =>
      chunk('IDAT', ...DATA.data.subarray(i * size, (i + 1) * size)),
    );
    const image = await read([HEADER, chunk('IDAT'), ...pieces, chunk('IDAT'), END]);
    assert.equal([...image.data], PIXELS);
    assert.is(image.note, undefined);
  }
  const data = Uint8Array.from({ length: 300 * 211 * 3 }, (_, i) => (i * i) >> 5);
  const [header, pixels, end] = chunksOf(encodePng({ width: 300, height: 211, data }));
  const noted = await read([header, { type: 'IDAT', data: joinBytes(pixels.data, new Uint8Array(99).fill(1)) }, end]);
  assert.equal(noted.data, data);
  assert.match(noted.note!, /beyond/);
});

test('chunks in the wrong place', async () => {
  sameWithNote(await read([HEADER, DATA, chunk('tRNS', 0, 1, 0, 2, 0, 3), END]), /left out: tRNS \(wrong place or length\)/);
  sameWithNote(await read([HEADER, DATA, chunk('gAMA', 0, 1, 0, 0), END]), /left out: gAMA \(wrong place\)/);
  sameWithNote(await read([HEADER, DATA, chunk('tEXt', 65, 0, 66), DATA, END]), /left out: IDAT \(apart from the others\)/);
  sameWithNote(await read([HEADER, DATA, chunk('PLTE', 1, 2, 3), END]), /left out: PLTE/);
  const many = Array.from({ length: 9 }, () => chunk('tRNS', 1));
  sameWithNote(await read([HEADER, ...many, DATA, END]), /tRNS \(wrong place or length\) and 4 more; its pixels are whole/);
});

test('what the picture cannot do without is refused in words', async () => {
  await refused(read([HEADER, HEADER, DATA, END]), /x\.png: the PNG file is damaged \(two headers\)/);
  await refused(read([HEADER, chunk('QUUX', 1), DATA, END]), /it needs a chunk QUUX, which PNG does not have/);
  await refused(read([HEADER, END]), /no pixels/);
  await refused(read([HEADER, chunk('ID\x1bT'), DATA, END]), /no chunk at byte 33/);
  const indexed: RawPng = { width: 2, height: 1, depth: 8, color: 3, rows: [0, 0, 1] };
  for (const palette of [[], [1, 2], [1, 2, 3, 4], new Array(771).fill(1)])
    await refused(read({ ...indexed, chunks: [chunk('PLTE', ...palette)] }), /damaged \(its palette\)/);
  await refused(read({ ...indexed, chunks: [chunk('PLTE', 1, 2, 3), chunk('PLTE', 4, 5, 6)] }), /damaged \(its palette\)/);
});

test('a transparent colour: only the low bits count, and it stays what it is', async () => {
  const key = (...values: number[]) => [chunk('tRNS', ...values)];
  const rgb = await read({ ...PLAIN, chunks: key(0x53, 4, 0xf2, 5, 0x80, 6) });
  assert.equal([...rgb.data], PIXELS);
  assert.equal([...rgb.alpha!], [255, 0, 255, 255, 255, 255]);
  assert.not((await read({ ...PLAIN, chunks: key(0, 4, 0, 5, 0, 7) })).alpha);
  for (const depth of [1, 2, 4, 8]) {
    const most = 2 ** depth - 1;
    const grey = await read({ width: 1, height: 2, depth, color: 0, rows: [0, most << (8 - depth), 0, 0], chunks: key(0xff, 0xff) });
    assert.equal([...grey.data], [255, 255, 255, 0, 0, 0]);
    assert.equal([...grey.alpha!], [0, 255], `${depth} bits`);
  }
  // of 16 bits all count: what rounds to the same 8 bits is not the same
  const deep = await read({ width: 2, height: 1, depth: 16, color: 0, rows: [0, 0x12, 0x34, 0x12, 0x35], chunks: key(0x12, 0x35) });
  assert.equal([...deep.alpha!], [255, 0]);
  const interlaced = await read({
    width: 2,
    height: 2,
    depth: 8,
    color: 0,
    interlaced: true,
    rows: [0, 1, 0, 2, 0, 3, 4],
    chunks: key(0, 3),
  });
  assert.equal([...interlaced.alpha!], [255, 255, 0, 255]);
});

test('transparency that fits no picture is left out with a note', async () => {
  const note = /tRNS \(wrong place or length\)/;
  const palette = chunk('PLTE', 1, 2, 3, 4, 5, 6);
  const indexed: RawPng = { width: 2, height: 1, depth: 8, color: 3, rows: [0, 1, 0] };
  assert.equal([...(await read({ ...indexed, chunks: [palette, chunk('tRNS', 9)] })).alpha!], [255, 9]);
  for (const chunks of [
    [palette, chunk('tRNS', 1, 2, 3)],
    [chunk('tRNS', 1), palette],
    [palette, chunk('tRNS')],
  ]) {
    const image = await read({ ...indexed, chunks });
    assert.equal([...image.data], [4, 5, 6, 1, 2, 3]);
    assert.not(image.alpha);
    assert.match(image.note!, note);
  }
  for (const length of [1, 2, 5, 7]) sameWithNote(await read({ ...PLAIN, chunks: [chunk('tRNS', ...new Array(length).fill(0))] }), note);
  const withAlpha = await read({
    width: 1,
    height: 1,
    depth: 8,
    color: 6,
    rows: [0, 1, 2, 3, 4],
    chunks: [chunk('tRNS', 0, 1, 0, 2, 0, 3)],
  });
  assert.equal([...withAlpha.alpha!], [4]);
  assert.match(withAlpha.note!, note);
});

test('every depth, colour type, filter and interlacing, as pngjs reads them', async () => {
  let seed = 1;
  const random = (n: number) => ((seed = (seed * 1103515245 + 12345) & 0x7fffffff) >> 8) % n;
  const depths: [color: number, depths: number[]][] = [
    [0, [1, 2, 4, 8, 16]],
    [2, [8, 16]],
    [3, [1, 2, 4, 8]],
    [4, [8, 16]],
    [6, [8, 16]],
  ];
  for (const [color, each] of depths) {
    for (const depth of each) {
      for (const interlaced of [false, true]) {
        for (const [width, height] of [
          [1, 1],
          [13, 9],
          [8, 17],
        ]) {
          const samples = [1, 0, 3, 1, 2, 0, 4][color];
          const rows: number[] = [];
          const steps = [
            [0, 0, 8, 8],
            [4, 0, 8, 8],
            [0, 4, 4, 8],
            [2, 0, 4, 4],
            [0, 2, 2, 4],
            [1, 0, 2, 2],
            [0, 1, 1, 2],
          ];
          for (const [left, top, across, down] of interlaced ? steps : [[0, 0, 1, 1]]) {
            const columns = Math.ceil((width - left) / across);
            for (let y = top; y < height && columns > 0; y += down) {
              rows.push(random(5));
              for (let i = Math.ceil((columns * samples * depth) / 8); i > 0; i--) rows.push(random(256));
            }
          }
          const palette = chunk('PLTE', ...Array.from({ length: 3 * 2 ** Math.min(8, depth) }, () => random(256)));
          const bytes = makePng({ width, height, depth, color, interlaced, rows, chunks: color === 3 ? [palette] : [] });
          const ours = await decode(bytes, 'x.png');
          const theirs = PNG.sync.read(pngjsBytes(bytes)).data;
          const off = ours.data.reduce((worst, value, i) => Math.max(worst, Math.abs(value - theirs[4 * Math.floor(i / 3) + (i % 3)])), 0);
          assert.ok(off <= (depth === 16 ? 1 : 0), `type ${color}, ${depth} bits, ${width}x${height}: ${off}`); // pngjs rounds 16 bits otherwise
          if (ours.alpha) for (const [i, value] of ours.alpha.entries()) assert.ok(Math.abs(value - theirs[4 * i + 3]) <= 1);
        }
      }
    }
  }
});

/** Bytes as pngjs reads them: in Node's Buffer, or the one bundled with it. */
function pngjsBytes(bytes: Uint8Array): Buffer {
  const buffer = new PNG({ width: bytes.length, height: 1 }).data.subarray(0, bytes.length);
  buffer.set(bytes);
  return buffer;
}

test('check value of Adler-32', () => {
  assert.is(adler32(ascii('Wikipedia')), 0x11e60398);
  const bytes = Uint8Array.from({ length: 20_000 }, () => 255);
  assert.is(adler32(bytes.subarray(5000), adler32(bytes.subarray(0, 5000))), adler32(bytes));
});

test.run();
