/**
 * PNG files to images. The order of chunks and every length are checked first; then pixels are read row by row while they are inflated, so that
 * memory is that of the picture, whatever a file claims. (PNG specification, third edition)
 */
import { UserError } from '../core/errors.ts';
import type { FileContents } from './file-contents.ts';
import { checkSize, type Image, type SizeLimits } from './image.ts';
import { adler32, inflate } from './inflate.ts';
import { PNG_SIGNATURE, readChunks } from './png-chunks.ts';
import { exifBlocks, readColours } from './png-metadata.ts';
import { type PngHeader, PngRows, SAMPLES } from './png-rows.ts';
import { type PngStructure, pngStructure } from './png-structure.ts';

const DEPTHS: Record<number, number[]> = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };

/**
 * A PNG of any kind (1 to 16 bits, grey, palette, RGB, alpha, tRNS, interlaced) as 8-bit RGB; 16 bits are rounded to v / 257, and kept whole in `deep`. Alpha is kept if a
 * pixel is not opaque, and the colours under it are left as they are. Faults that leave the pixels whole get a note: ancillary chunks that are
 * damaged or in the wrong place, data beyond the pixels, colours beyond the palette. UserError for other damage and sizes above the limits.
 */
export async function readPng(bytes: Uint8Array, name: string, limits: SizeLimits): Promise<FileContents> {
  const header = readHeader(bytes, name);
  checkSize(header.width, header.height, name, limits); // before the rest of the file is read at all
  const { chunks, damaged } = readChunks(bytes, name);
  const structure = pngStructure(chunks, header, name);
  const { image, notes } = await readPixels(structure, header, name);
  const left = [...damaged.map((type) => `${type} (wrong checksum)`), ...structure.left];
  if (left.length > 0) {
    const more = left.length > 5 ? ` and ${left.length - 5} more` : '';
    notes.unshift(`parts of the PNG file were left out: ${left.slice(0, 5).join(', ')}${more}; its pixels are whole.`);
  }
  const colours = await readColours(structure.ancillary);
  const exif = await exifBlocks(structure.ancillary);
  return { image, ...colours, exif, grey: header.color === 0 || header.color === 4, notes: [...notes, ...colours.notes] };
}

/** The IHDR chunk, which must come first. */
function readHeader(bytes: Uint8Array, name: string): PngHeader {
  const at = PNG_SIGNATURE.length;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < at + 25 || view.getUint32(at) !== 13 || view.getUint32(at + 4) !== 0x49484452) {
    throw new UserError(`${name}: the PNG file has no header; get another copy.`);
  }
  const [depth, color, compression, filter, interlace] = bytes.subarray(at + 16, at + 21);
  if (!DEPTHS[color]?.includes(depth) || compression !== 0 || filter !== 0 || interlace > 1) {
    throw new UserError(`${name}: the PNG file's header is damaged (depth ${depth}, colour type ${color}); get another copy.`);
  }
  return { width: view.getUint32(at + 8), height: view.getUint32(at + 12), depth, color, interlaced: interlace === 1 };
}

async function readPixels(structure: PngStructure, header: PngHeader, name: string): Promise<{ image: Image; notes: string[] }> {
  const { width, height } = header;
  const image: Image = { width, height, data: new Uint8Array(width * height * 3) };
  if (header.color > 3 || structure.transparency) image.alpha = new Uint8Array(width * height);
  if (header.depth === 16) image.deep = new Uint16Array(image.data.length);
  const painter = new Painter(image, header, structure);
  const rows = new PngRows(header, (...row) => painter.put(...row));
  let sum = 1;
  const outcome = await inflate(structure.pixels, (bytes) => {
    sum = adler32(bytes, sum);
    return rows.take(bytes);
  });
  const damaged = (what: string) => new UserError(`${name}: the PNG file is damaged${what}; get another copy or save it again.`);
  if (rows.fault) throw damaged(` (${rows.fault})`);
  if (!rows.complete) throw damaged(outcome === 'end' ? ': it holds fewer pixels than its header says' : ' (its zlib stream)');
  if (image.alpha?.every((value) => value === 255)) delete image.alpha;
  const notes: string[] = [];
  // the stream ends with its checksum, whatever a host says of bytes that follow
  const end = structure.pixels.subarray(-4).reduce((value, byte) => value * 256 + byte, 0);
  if (rows.beyond || sum !== end) notes.push('the PNG file has data beyond its pixels, or a wrong checksum of them; its pixels are whole.');
  if (painter.beyondPalette) notes.push('the PNG file has colours that are not in its palette; they are black.');
  return { image, notes };
}

/** Rows of samples to pixels. (section 13.12 on depths, 11.3.1.1 on transparent colours) */
class Painter {
  /** Whether a pixel had a colour that the palette lacks. */
  beyondPalette = false;
  private readonly image: Image;
  private readonly header: PngHeader;
  private readonly structure: PngStructure;
  /** sample to 8 bits */
  private readonly levels: Uint8Array;
  /** the samples of the colour that is transparent, of which only the file's depth counts */
  private readonly key: number[];

  constructor(image: Image, header: PngHeader, structure: PngStructure) {
    this.image = image;
    this.header = header;
    this.structure = structure;
    const most = 2 ** header.depth - 1;
    this.levels = Uint8Array.from({ length: most + 1 }, (_, value) => Math.round((value * 255) / most));
    const { transparency = [] } = structure;
    this.key =
      header.color === 3
        ? []
        : Array.from({ length: transparency.length / 2 }, (_, i) => ((transparency[2 * i] << 8) | transparency[2 * i + 1]) & most);
  }

  /** Puts a row of pixels from `first` on, `apart` from each other. */
  put(row: Uint8Array, columns: number, first: number, apart: number): void {
    const { data, deep, alpha } = this.image;
    const { color } = this.header;
    const samples = SAMPLES[color];
    const { levels, key } = this;
    const hasAlpha = samples === 2 || samples === 4;
    for (let x = 0, pixel = first, from = 0; x < columns; x++, pixel += apart, from += samples) {
      if (color === 3) {
        this.putIndex(this.sample(row, from), pixel);
        continue;
      }
      const red = this.sample(row, from);
      const green = samples > 2 ? this.sample(row, from + 1) : red;
      const blue = samples > 2 ? this.sample(row, from + 2) : red;
      data[3 * pixel] = levels[red];
      data[3 * pixel + 1] = levels[green];
      data[3 * pixel + 2] = levels[blue];
      if (deep) {
        deep[3 * pixel] = red;
        deep[3 * pixel + 1] = green;
        deep[3 * pixel + 2] = blue;
      }
      if (hasAlpha) alpha![pixel] = levels[this.sample(row, from + samples - 1)];
      else if (key.length > 0) alpha![pixel] = red === key[0] && (samples === 1 || (green === key[1] && blue === key[2])) ? 0 : 255;
    }
  }

  private putIndex(index: number, pixel: number): void {
    const { palette, transparency } = this.structure;
    const { data, alpha } = this.image;
    if (3 * index >= palette.length) this.beyondPalette = true;
    for (let c = 0; c < 3; c++) data[3 * pixel + c] = palette[3 * index + c];
    if (alpha) alpha[pixel] = transparency![index] ?? 255;
  }

  private sample(row: Uint8Array, i: number): number {
    const { depth } = this.header;
    if (depth === 8) return row[i];
    if (depth === 16) return (row[2 * i] << 8) | row[2 * i + 1];
    return (row[(i * depth) >> 3] >> (8 - depth - ((i * depth) & 7))) & (2 ** depth - 1);
  }
}
