/** What a PNG says about its colours, and the EXIF in it. (PNG specification, third edition, sections 4.3, 11.3.2 and 11.3.3; ITU-T H.273) */
import { type Chromaticities, powerCurve, rgbProfile, SRGB_COLOURS, splitCurve } from './icc.ts';
import { inflated } from './inflate.ts';
import { latin1, type PngChunk } from './png-chunks.ts';

/** More bytes than any profile has, tables of printers included; and than an EXIF block's hexadecimal digits. */
const [MAX_PROFILE, MAX_TEXT] = [2 ** 24, 2 ** 22];
/** Texts that are looked into for EXIF; each may inflate to MAX_TEXT. */
const MAX_TEXTS = 4;

export interface PngColours {
  /** a profile that says what the colours are; none for sRGB */
  icc?: Uint8Array;
  /** the chunks that say so, unless that was a profile */
  colourChunks?: PngChunk[];
  notes: string[];
}

/** Of several descriptions the best one: cICP, then iCCP, sRGB, and gAMA with cHRM. */
export async function readColours(chunks: PngChunk[]): Promise<PngColours> {
  const find = (type: string) => chunks.find((chunk) => chunk.type === type);
  const notes: string[] = [];
  const coded = find('cICP');
  if (coded?.data.length === 4) {
    const icc = profileOfCode(coded.data);
    if (icc === null) notes.push('its colours (cICP) are known to PNG only: a JPEG or WebP of the result will show others.');
    return { icc: icc ?? undefined, colourChunks: [coded], notes };
  }
  const embedded = find('iCCP');
  const profile = embedded && (await readProfile(embedded.data));
  if (profile) return { icc: profile, notes };
  if (embedded) notes.push('its colour profile is damaged and was left out; colours may be off.');
  const [gamma, colours] = [find('gAMA'), find('cHRM')];
  if (find('sRGB') || !(gamma || colours)) return { notes };
  const exponent = gamma ? 100_000 / numberAt(gamma.data, 0) : undefined;
  const points = colours ? chromaticities(colours.data) : SRGB_COLOURS;
  const valid = (!gamma || (gamma.data.length === 4 && exponent! > 0.01 && exponent! < 100)) && (!colours || colours.data.length === 32);
  const icc = valid ? rgbProfile(points, exponent === undefined ? SRGB_CURVE : powerCurve(exponent)) : undefined;
  if (!icc) return { notes: [...notes, 'what it says of its colours (gAMA, cHRM) makes no sense and was left out.'] };
  const colourChunks = [gamma, colours].filter((chunk) => chunk !== undefined);
  return isSrgb(exponent, points) ? { colourChunks, notes } : { icc, colourChunks, notes };
}

/** The blocks that may be EXIF: eXIf, then texts of hexadecimal digits, as ImageMagick wrote them before PNG had eXIf. */
export async function exifBlocks(chunks: PngChunk[]): Promise<Uint8Array[]> {
  const blocks = chunks.filter(({ type }) => type === 'eXIf').map(({ data }) => data);
  const keyword = ({ data }: PngChunk) => latin1(data.subarray(0, Math.max(0, data.subarray(0, 80).indexOf(0))));
  const texts = chunks.filter((chunk) => /^Raw profile type (exif|app1)$/i.test(keyword(chunk)));
  for (const chunk of texts.slice(0, MAX_TEXTS)) {
    const nul = chunk.data.indexOf(0);
    const block = rawProfile(latin1(await textAfter(chunk, nul)));
    if (block) blocks.push(block);
  }
  return blocks;
}

/** The text of a tEXt, zTXt or iTXt chunk whose keyword ends at `nul`. */
async function textAfter({ type, data }: PngChunk, nul: number): Promise<Uint8Array> {
  if (type === 'tEXt') return data.subarray(nul + 1, nul + 1 + MAX_TEXT);
  if (type === 'zTXt') return inflated(data.subarray(nul + 2), MAX_TEXT);
  if (type !== 'iTXt') return new Uint8Array();
  const language = data.indexOf(0, nul + 3);
  const start = data.indexOf(0, language + 1) + 1;
  const text = language > 0 && start > 0 ? data.subarray(start) : new Uint8Array();
  return data[nul + 1] === 1 ? inflated(text, MAX_TEXT) : text.subarray(0, MAX_TEXT);
}

/** The bytes of a text that is a line break, a name, a length and hexadecimal digits, each on its lines. */
function rawProfile(text: string): Uint8Array | undefined {
  const lines = text.split('\n');
  const start = lines.findIndex((line, i) => i < 4 && /^ *\d+\r?$/.test(line.slice(0, 80)));
  const digits =
    start < 0
      ? ''
      : lines
          .slice(start + 1)
          .join('')
          .replace(/\s/g, '');
  if (!/^([0-9a-f]{2})+$/i.test(digits)) return undefined;
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** The profile of an iCCP chunk: a name, NUL, the compression method 0, a zlib stream. Undefined where it is damaged. */
async function readProfile(data: Uint8Array): Promise<Uint8Array | undefined> {
  const nul = data.indexOf(0);
  if (nul < 0 || data[nul + 1] !== 0) return undefined;
  const profile = await inflated(data.subarray(nul + 2), MAX_PROFILE);
  const size = profile.length >= 132 ? numberAt(profile, 0) : 0;
  return size >= 132 && size <= profile.length ? profile.subarray(0, size) : undefined;
}

const numberAt = (data: Uint8Array, at: number): number => (data[at] * 256 + data[at + 1]) * 65536 + data[at + 2] * 256 + data[at + 3];

function chromaticities(data: Uint8Array): Chromaticities {
  const point = (i: number) => [numberAt(data, 8 * i) / 1e5, numberAt(data, 8 * i + 4) / 1e5] as const;
  return [point(0), point(1), point(2), point(3)];
}

/** Whether a power and primaries are what sRGB files carry for readers that know no better; no power means sRGB's curve. */
function isSrgb(exponent: number | undefined, points: Chromaticities): boolean {
  const near = points.every((point, i) => point.every((value, k) => Math.abs(value - SRGB_COLOURS[i][k]) < 0.002));
  return near && (exponent === undefined || Math.abs(exponent - 2.2) < 0.02);
}

const SRGB_CURVE = splitCurve(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045);
const VIDEO_CURVE = splitCurve(1 / 0.45, 1 / 1.0993, 0.0993 / 1.0993, 1 / 4.5, 0.0812);

const [D65, C, DCI] = [
  [0.3127, 0.329],
  [0.31, 0.316],
  [0.314, 0.351],
] as const;
/** ColourPrimaries, table 2 */
const PRIMARIES: Record<number, Chromaticities> = {
  1: SRGB_COLOURS,
  4: [C, [0.67, 0.33], [0.21, 0.71], [0.14, 0.08]],
  5: [D65, [0.64, 0.33], [0.29, 0.6], [0.15, 0.06]],
  6: [D65, [0.63, 0.34], [0.31, 0.595], [0.155, 0.07]],
  7: [D65, [0.63, 0.34], [0.31, 0.595], [0.155, 0.07]],
  8: [C, [0.681, 0.319], [0.243, 0.692], [0.145, 0.049]],
  9: [D65, [0.708, 0.292], [0.17, 0.797], [0.131, 0.046]],
  11: [DCI, [0.68, 0.32], [0.265, 0.69], [0.15, 0.06]],
  12: [D65, [0.68, 0.32], [0.265, 0.69], [0.15, 0.06]],
  22: [D65, [0.63, 0.34], [0.295, 0.605], [0.155, 0.077]],
};
/** TransferCharacteristics, table 3, those of pictures that do not go beyond white */
const CURVES: Record<number, Uint8Array> = {
  1: VIDEO_CURVE,
  4: powerCurve(2.2),
  5: powerCurve(2.8),
  6: VIDEO_CURVE,
  7: splitCurve(1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0912),
  8: powerCurve(1),
  11: VIDEO_CURVE,
  13: SRGB_CURVE,
  14: VIDEO_CURVE,
  15: VIDEO_CURVE,
};

/** The profile of a cICP chunk: undefined for sRGB, null where a profile cannot say it. */
function profileOfCode([primaries, transfer, matrix, fullRange]: Uint8Array): Uint8Array | undefined | null {
  if (primaries === 1 && transfer === 13 && matrix === 0 && fullRange === 1) return undefined;
  const [colours, curve] = [PRIMARIES[primaries], CURVES[transfer]];
  if (!colours || !curve || matrix !== 0 || fullRange !== 1) return null;
  return rgbProfile(colours, curve) ?? null;
}
