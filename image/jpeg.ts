/** JPEG files to images: baseline and progressive, Huffman-coded, of 8 bits. (ITU T.81; JFIF 1.02; Adobe TN 5116) */
import { UserError } from '../core/errors.ts';
import { joinBytes } from './bytes.ts';
import type { FileContents } from './file-contents.ts';
import { checkSize, type Image, type SizeLimits } from './image.ts';
import { HuffmanTable, JpegBits, JpegDamage, nextMarker } from './jpeg-entropy.ts';
import { enlargedRow, type JpegPlane, samplesOf, toRgb } from './jpeg-samples.ts';
import { type JpegComponent, type JpegScan, readScan, ZIGZAG } from './jpeg-scan.ts';

/** How the segment begins that holds a piece of an ICC profile: then its number, from 1 on, and how many there are. */
export const ICC_PREFIX = 'ICC_PROFILE\0';
export const EXIF_PREFIX = 'Exif\0\0';

const CMYK_NOTE = 'its CMYK colours were converted without its colour profile and may be off.';
const NO_END_NOTE = 'the end of the JPEG file is missing, but nothing of the picture is.';

/** More scans than any encoder writes, and how often they may go through the blocks of a large picture: small files could keep the reader busy for hours. */
const [MAX_SCANS, MAX_PASSES, FREE_BLOCKS] = [200, 20, 20e6];

const MARKER = { SOF0: 0xc0, SOF2: 0xc2, DHT: 0xc4, SOI: 0xd8, EOI: 0xd9, SOS: 0xda, DQT: 0xdb, DRI: 0xdd, APP0: 0xe0, APP14: 0xee };

/**
 * A JPEG, grey or colour, as 8-bit RGB, not yet turned by its EXIF orientation, to the same level as libjpeg gives it. CMYK, as Adobe writes it
 * (inverted, also as YCCK), becomes (255 - C)(255 - K) / 255 and so on, with a note; so does a file without its end marker whose picture is whole.
 * UserError for files that lack a part of the picture, sizes above the limits, and kinds that are not supported (12-bit, lossless, arithmetic).
 */
export function readJpeg(bytes: Uint8Array, name: string, limits: SizeLimits): FileContents {
  const file = new JpegFile(bytes, name, limits);
  try {
    file.read();
    const { components, icc, exif, ended } = file;
    const notes = [...(components.length === 4 ? [CMYK_NOTE] : []), ...(ended ? [] : [NO_END_NOTE])];
    return {
      image: file.picture(),
      icc: components.length === 4 ? undefined : joinProfile(icc),
      exif,
      notes,
      grey: components.length === 1,
    };
  } catch (error) {
    if (!(error instanceof JpegDamage)) throw error;
    throw new UserError(`${name}: the JPEG file is damaged or cut off (${error.message}); get another copy or save it again.`);
  }
}

/** The ICC profile; undefined if a piece of it is missing. (ICC.1:2022, annex B.4) */
function joinProfile({ pieces, count }: JpegFile['icc']): Uint8Array | undefined {
  const all = Array.from({ length: count }, (_, i) => pieces.get(i + 1));
  return all.length === 0 || all.includes(undefined) ? undefined : joinBytes(...(all as Uint8Array[]));
}

class JpegFile {
  width = 0;
  height = 0;
  readonly components: JpegComponent[] = [];
  /** TIFF blocks of EXIF segments */
  readonly exif: Uint8Array[] = [];
  /** pieces of the ICC profile, by their numbers from 1 on, and how many there should be */
  readonly icc = { pieces: new Map<number, Uint8Array>(), count: 0 };
  /** whether the end marker was there */
  ended = false;
  private readonly bytes: Uint8Array;
  private readonly name: string;
  private readonly limits: SizeLimits;
  private readonly steps = new Map<number, Uint16Array>();
  private readonly codes = new Map<number, HuffmanTable>();
  private progressive = false;
  private restartInterval = 0;
  private jfif = false;
  /** Adobe's colour transform: 0 none, 1 YCbCr, 2 YCCK */
  private adobeTransform: number | undefined;
  private scans = 0;
  private visited = 0;

  constructor(bytes: Uint8Array, name: string, limits: SizeLimits) {
    this.bytes = bytes;
    this.name = name;
    this.limits = limits;
  }

  /** Reads all segments and scans up to the end marker, or up to where it is missing. Bytes between segments that belong to nothing are passed over. */
  read(): void {
    const { bytes } = this;
    for (let at = 2; ; ) {
      at = nextMarker(bytes, at);
      if (at < 0) break;
      const marker = bytes[at + 1];
      at += 2;
      if (marker === MARKER.EOI) {
        this.ended = true;
        break;
      }
      if (marker < MARKER.SOF0 || (marker >= 0xd0 && marker < MARKER.SOI)) continue; // stands alone and means nothing here
      const whole = this.isWhole();
      if (marker === MARKER.SOI || (whole && (marker === MARKER.SOS || isFrame(marker)))) break; // another picture
      const end = at + Math.max(2, (bytes[at] << 8) | bytes[at + 1]);
      if (!(end <= bytes.length)) break;
      if (!whole) this.takeSegment(marker, bytes.subarray(at + 2, end));
      at = marker === MARKER.SOS && !whole ? this.takeScan(bytes.subarray(at + 2, end), end) : end;
    }
    if (this.components.length === 0) throw new JpegDamage('no frame header');
    const seen = this.components.every(({ missingBits }) => missingBits[0] >= 0);
    if (!(this.ended ? seen : this.isWhole())) throw new JpegDamage('a part of the picture is missing');
  }

  /** (height, width, 3) u8 */
  picture(): Image {
    const { width, height, components } = this;
    const [maxH, maxV] = largestSampling(components);
    const planes = components.map((component): [JpegPlane, number, number] => [
      samplesOf(component, ...sizeOf(component, width, height, maxH, maxV)),
      maxH / component.h,
      maxV / component.v,
    ]);
    const data = new Uint8Array(width * height * 3);
    const rows = components.map(() => new Uint8ClampedArray(width));
    const inks = components.length === 4;
    const coded = components.length > 1 && this.isYCbCr();
    for (let y = 0, to = 0; y < height; y++) {
      for (const [i, [plane, across, down]] of planes.entries()) enlargedRow(plane, y, across, down, rows[i]);
      if (coded) toRgb(rows);
      const [red, green, blue] = [rows[0], rows[1] ?? rows[0], rows[2] ?? rows[0]];
      for (let x = 0; x < width; x++, to += 3) {
        if (inks) {
          const paper = (value: number) => Math.round(((coded ? 255 - value : value) * rows[3][x]) / 255);
          data[to] = paper(red[x]);
          data[to + 1] = paper(green[x]);
          data[to + 2] = paper(blue[x]);
        } else {
          data[to] = red[x];
          data[to + 1] = green[x];
          data[to + 2] = blue[x];
        }
      }
    }
    return { width, height, data };
  }

  /** As libjpeg decides: JFIF is YCbCr, Adobe says so itself, otherwise components named R, G and B are RGB, and four are inks. */
  private isYCbCr(): boolean {
    const { components, adobeTransform } = this;
    if (components.length === 4) return (adobeTransform ?? 0) !== 0;
    if (this.jfif) return true;
    if (adobeTransform !== undefined) return adobeTransform !== 0;
    return String.fromCharCode(...components.map(({ id }) => id)) !== 'RGB';
  }

  /** Whether every bit of every coefficient was read. */
  private isWhole(): boolean {
    return this.components.length > 0 && this.components.every(({ missingBits }) => missingBits.every((bits) => bits === 0));
  }

  private takeSegment(marker: number, data: Uint8Array): void {
    if (isFrame(marker)) this.takeFrame(marker, data);
    else if (marker === MARKER.DQT) this.takeSteps(data);
    else if (marker === MARKER.DHT) this.takeCodes(data);
    else if (marker === MARKER.DRI) this.restartInterval = (data[0] << 8) | data[1];
    else if (marker === MARKER.APP0 && startsWith(data, 'JFIF\0')) this.jfif = true;
    else if (marker === MARKER.APP0 + 1 && startsWith(data, EXIF_PREFIX)) this.exif.push(data.subarray(EXIF_PREFIX.length));
    else if (marker === MARKER.APP0 + 2 && startsWith(data, ICC_PREFIX) && data.length > ICC_PREFIX.length + 2) {
      const [index, count] = data.subarray(ICC_PREFIX.length);
      this.icc.pieces.set(index, data.subarray(ICC_PREFIX.length + 2));
      this.icc.count = count;
    } else if (marker === MARKER.APP14 && startsWith(data, 'Adobe') && data.length >= 12) this.adobeTransform = data[11];
  }

  private takeFrame(marker: number, data: Uint8Array): void {
    const { name, components } = this;
    const unsupported = (what: string) => new UserError(`${name}: ${what} is not supported; save it as an ordinary RGB JPEG or as PNG.`);
    if (components.length > 0) throw new JpegDamage('two frame headers');
    if (marker > MARKER.SOF2) throw unsupported(marker < 0xc8 ? 'a lossless or hierarchical JPEG' : 'an arithmetic-coded JPEG');
    const count = data[5];
    if (!(data.length >= 6 + 3 * count)) throw new JpegDamage('short frame header');
    if (data[0] !== 8) throw unsupported(`a JPEG of ${data[0]} bits`);
    if (count !== 1 && count !== 3 && count !== 4) throw unsupported(`a JPEG of ${count} components`);
    const [height, width] = [(data[1] << 8) | data[2], (data[3] << 8) | data[4]];
    checkSize(width, height, name, this.limits);
    Object.assign(this, { width, height, progressive: marker === MARKER.SOF2 });
    const sampling = Array.from({ length: count }, (_, i) => data[7 + 3 * i]);
    const factors = sampling.map((both) => (count === 1 ? { h: 1, v: 1 } : { h: both >> 4, v: both & 15 })); // of one they mean nothing (A.2.2)
    if (factors.some(({ h, v }) => h < 1 || h > 4 || v < 1 || v > 4)) throw new JpegDamage('sampling factors');
    const [maxH, maxV] = largestSampling(factors);
    factors.forEach(({ h, v }, i) => {
      const [columns, rows] = sizeOf({ h, v }, width, height, 8 * maxH, 8 * maxV);
      components.push({
        ...{ id: data[6 + 3 * i], h, v, table: data[8 + 3 * i], columns, rows },
        storedColumns: h * Math.ceil(width / (8 * maxH)),
        storedRows: v * Math.ceil(height / (8 * maxV)),
        coefficients: new Int16Array(),
        missingBits: new Int8Array(64).fill(-1),
      });
    });
    const blocks = components.reduce((sum, { columns, rows }) => sum + columns * rows, 0);
    // every block takes a bit at least; without this a few bytes could claim a size that takes seconds and gigabytes
    if (this.bytes.length * 8 < blocks) throw new JpegDamage(`${this.bytes.length} bytes for ${width}x${height} pixels`);
  }

  private takeSteps(data: Uint8Array): void {
    for (let at = 0; at < data.length; ) {
      const wide = data[at] >> 4 ? 2 : 1;
      const values = data.subarray(at + 1, at + 1 + 64 * wide);
      if (values.length < 64 * wide) throw new JpegDamage('a short quantisation table');
      const steps = new Uint16Array(64);
      for (let k = 0; k < 64; k++) steps[ZIGZAG[k]] = wide === 1 ? values[k] : (values[2 * k] << 8) | values[2 * k + 1];
      this.steps.set(data[at] & 15, steps);
      at += 1 + 64 * wide;
    }
  }

  private takeCodes(data: Uint8Array): void {
    for (let at = 0; at < data.length; ) {
      const counts = data.subarray(at + 1, at + 17);
      const size = counts.reduce((sum, count) => sum + count, 0);
      const symbols = data.subarray(at + 17, at + 17 + size);
      if (counts.length < 16 || size > 256 || symbols.length < size) throw new JpegDamage('a short Huffman table');
      this.codes.set(data[at], new HuffmanTable(counts, symbols));
      at += 17 + size;
    }
  }

  /** Reads the scan of this header, whose data begin at `at`; gives the offset behind them. (B.2.3) */
  private takeScan(header: Uint8Array, at: number): number {
    const { components, progressive, width, height } = this;
    const count = header[0];
    if (components.length === 0) throw new JpegDamage('pixels before the frame header');
    if (!(count >= 1 && count <= components.length && header.length >= 4 + 2 * count)) throw new JpegDamage('a scan header');
    const [from, to, bits] = progressive ? header.subarray(1 + 2 * count) : [0, 63, 0];
    const [high, low] = [bits >> 4, bits & 15];
    if (!(from <= to && to < 64 && low < 14 && (!progressive || (from === 0 ? to === 0 : count === 1))))
      throw new JpegDamage('a scan header');
    const parts: JpegScan['parts'] = [];
    for (let i = 0; i < count; i++) {
      const [id, tables] = header.subarray(1 + 2 * i);
      // where components share a name, they come in the frame's order
      const named = components.filter((each) => each.id === id && !parts.some(({ component }) => component === each));
      const component = named.find(({ missingBits }) => missingBits[from] === (high === 0 ? -1 : high)) ?? named[0];
      if (!component) throw new JpegDamage('a scan of a component that is not there');
      const [dc, ac] = [this.codes.get(tables >> 4), this.codes.get(16 | (tables & 15))];
      if ((!dc && from === 0 && high === 0) || (!ac && to > 0)) throw new JpegDamage('a Huffman table is missing');
      component.steps ??= this.steps.get(component.table);
      if (!component.steps) throw new JpegDamage('a quantisation table is missing');
      if (component.coefficients.length === 0) component.coefficients = new Int16Array(64 * component.storedColumns * component.storedRows);
      parts.push({ component, dc, ac });
    }
    const blocks = (of: JpegComponent[]) => of.reduce((sum, { storedColumns, storedRows }) => sum + storedColumns * storedRows, 0);
    this.visited += blocks(parts.map(({ component }) => component));
    if (++this.scans > MAX_SCANS || this.visited > Math.max(FREE_BLOCKS, MAX_PASSES * blocks(components)))
      throw new UserError(
        `${this.name}: a JPEG with so many scans (more than ${MAX_SCANS}, or ${MAX_PASSES} times the picture) is not supported; save it again.`,
      );
    const [maxH, maxV] = largestSampling(components);
    const coded = new JpegBits(this.bytes, at);
    readScan(coded, {
      ...{ parts, progressive, from, to, high, low, restartInterval: this.restartInterval },
      unitColumns: Math.ceil(width / (8 * maxH)),
      unitRows: Math.ceil(height / (8 * maxV)),
    });
    for (const { component } of parts) component.missingBits.fill(low, from, to + 1);
    return coded.at;
  }
}

/** SOF0 to SOF15: what lies between them and is no frame header are Huffman tables, JPEG's extensions and arithmetic conditioning. */
const isFrame = (marker: number): boolean => marker >= MARKER.SOF0 && marker <= 0xcf && ![MARKER.DHT, 0xc8, 0xcc].includes(marker);

const largestSampling = (components: { h: number; v: number }[]): [maxH: number, maxV: number] => [
  Math.max(...components.map(({ h }) => h)),
  Math.max(...components.map(({ v }) => v)),
];

/** A component's share of the picture, `maxH` and `maxV` for one sample. (A.1.1) */
const sizeOf = ({ h, v }: { h: number; v: number }, width: number, height: number, maxH: number, maxV: number): [number, number] => [
  Math.ceil((width * h) / maxH),
  Math.ceil((height * v) / maxV),
];

const startsWith = (bytes: Uint8Array, text: string): boolean => [...text].every((letter, i) => bytes[i] === letter.charCodeAt(0));
