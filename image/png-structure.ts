/** The order of a PNG's chunks, and what must hold before its pixels are touched. (PNG specification, third edition, sections 5.6 and 11.2) */
import { UserError } from '../core/errors.ts';
import { joinBytes } from './bytes.ts';
import { isAncillary, type PngChunk } from './png-chunks.ts';
import type { PngHeader } from './png-rows.ts';

export interface PngStructure {
  /** (entries, 3) u8 of a picture with a palette; empty otherwise */
  palette: Uint8Array;
  /** the data of tRNS, of a length that fits */
  transparency?: Uint8Array;
  /** the zlib stream of the pixels */
  pixels: Uint8Array;
  /** other ancillary chunks in their right place */
  ancillary: PngChunk[];
  /** what was left out and why */
  left: string[];
}

/** Chunks that stand before the palette and the pixels, once. */
const FIRST = ['cHRM', 'cICP', 'gAMA', 'iCCP', 'sBIT', 'sRGB'];

/** Orders the chunks of a file. UserError where one is missing, twice or unknown without which the picture cannot be shown. */
export function pngStructure(chunks: PngChunk[], header: PngHeader, name: string): PngStructure {
  const damaged = (what: string) => new UserError(`${name}: the PNG file is damaged (${what}); get another copy or save it again.`);
  const pixels: Uint8Array[] = [];
  const found: PngStructure = { palette: new Uint8Array(), pixels: new Uint8Array(), ancillary: [], left: [] };
  const has = (type: string) => found.ancillary.some((each) => each.type === type);
  let before = 'IHDR';
  for (const chunk of chunks.slice(1)) {
    const { type, data } = chunk;
    const early = pixels.length === 0;
    if (type === 'IHDR') throw damaged('two headers');
    else if (type === 'PLTE') {
      const sound = data.length % 3 === 0 && data.length > 0 && data.length <= 768;
      if (header.color === 3) {
        if (!sound || !early || found.palette.length > 0) throw damaged('its palette');
        found.palette = data;
      } else if (!sound || !early || header.color === 0 || header.color === 4) found.left.push('PLTE (wrong place or length)');
    } else if (type === 'IDAT') {
      if (early || before === 'IDAT') pixels.push(data);
      else found.left.push('IDAT (apart from the others)');
    } else if (type === 'tRNS') {
      if (early && !found.transparency && fits(data, header.color, found.palette)) found.transparency = data;
      else found.left.push('tRNS (wrong place or length)');
    } else if (FIRST.includes(type)) {
      if (early && found.palette.length === 0 && !has(type)) found.ancillary.push(chunk);
      else found.left.push(`${type} (wrong place)`);
    } else if (isAncillary(type)) found.ancillary.push(chunk);
    else if (type !== 'IEND') throw damaged(`it needs a chunk ${type}, which PNG does not have`);
    before = type;
  }
  if (pixels.length === 0) throw damaged('no pixels');
  if (header.color === 3 && found.palette.length === 0) throw damaged('no palette');
  return { ...found, pixels: pixels.length === 1 ? pixels[0] : joinBytes(...pixels) };
}

/** Whether tRNS has the length that the colour type asks for; a palette must have come before. (section 11.3.1.1) */
function fits(transparency: Uint8Array, color: number, palette: Uint8Array): boolean {
  const { length } = transparency;
  if (color === 3) return length > 0 && 3 * length <= palette.length;
  return (color === 0 && length === 2) || (color === 2 && length === 6);
}
