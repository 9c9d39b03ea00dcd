/** A JPEG's scans: coded bits to coefficients, sequential and progressive. (ITU T.81, annexes F and G) */
import { type HuffmanTable, type JpegBits, JpegDamage } from './jpeg-entropy.ts';

export interface JpegComponent {
  id: number;
  /** sampling factors, 1 to 4, against the frame's largest */
  h: number;
  v: number;
  /** number of its quantisation table */
  table: number;
  /** blocks of 8x8 samples that the picture needs, and that are stored: whole units of interleaved scans */
  columns: number;
  rows: number;
  storedColumns: number;
  storedRows: number;
  /** (storedRows, storedColumns, 64) coefficients, each block's in rows */
  coefficients: Int16Array;
  /** the quantisation table that was in force at its first scan, 64 steps in rows */
  steps?: Uint16Array;
  /** how many low bits of each coefficient, in zigzag order, are still to come; -1 before its first scan */
  missingBits: Int8Array;
}

export interface JpegScan {
  parts: { component: JpegComponent; dc?: HuffmanTable; ac?: HuffmanTable }[];
  progressive: boolean;
  /** first and last coefficient, in zigzag order */
  from: number;
  to: number;
  /** number of the lowest bit before this scan, 0 for none, and after it */
  high: number;
  low: number;
  /** units between restart markers; 0 for none */
  restartInterval: number;
  /** blocks across and down of a unit with several components, of each by its sampling factors: units in a row, and rows */
  unitColumns: number;
  unitRows: number;
}

/** Where the coefficient of each place in zigzag order lies in its block's rows. (figure A.6) */
export const ZIGZAG = Uint8Array.from(
  Array.from({ length: 64 }, (_, i) => [i % 8, i >> 3])
    .sort(([x, y], [u, v]) => x + y - u - v || ((x + y) % 2 ? y - v : x - u))
    .map(([x, y]) => 8 * y + x),
);

/** Reads a scan's units into its components' coefficients. Throws JpegDamage where data are lost or no codes. */
export function readScan(bits: JpegBits, scan: JpegScan): void {
  const { parts, restartInterval } = scan;
  const coder = new BlockReader(bits, scan);
  const single = parts.length === 1;
  const columns = single ? parts[0].component.columns : scan.unitColumns;
  const units = columns * (single ? parts[0].component.rows : scan.unitRows);
  for (let unit = 0; unit < units; unit++) {
    if (restartInterval > 0 && unit > 0 && unit % restartInterval === 0) {
      bits.restart((unit / restartInterval - 1) & 7);
      coder.restart();
    }
    const [x, y] = [unit % columns, Math.floor(unit / columns)];
    for (let i = 0; i < parts.length; i++) {
      const { component } = parts[i];
      const [h, v] = single ? [1, 1] : [component.h, component.v];
      for (let row = y * v; row < (y + 1) * v; row++) {
        for (let column = x * h; column < (x + 1) * h; column++) coder.read(i, 64 * (row * component.storedColumns + column));
      }
    }
  }
}

class BlockReader {
  private readonly bits: JpegBits;
  private readonly scan: JpegScan;
  /** each component's last mean */
  private readonly means: Int32Array;
  /** blocks still to come in which no further coefficient begins */
  private emptyBlocks = 0;
  /** Reads the block of part i whose coefficients begin at `at`. */
  readonly read: (i: number, at: number) => void;

  constructor(bits: JpegBits, scan: JpegScan) {
    this.bits = bits;
    this.scan = scan;
    this.means = new Int32Array(scan.parts.length);
    if (!scan.progressive) this.read = this.readSequential;
    else if (scan.from === 0) this.read = scan.high === 0 ? this.readMean : this.refineMean;
    else this.read = scan.high === 0 ? this.readBand : this.refineBand;
  }

  restart(): void {
    this.means.fill(0);
    this.emptyBlocks = 0;
  }

  private nextMean(i: number): number {
    const size = this.bits.symbol(this.scan.parts[i].dc!);
    if (size > 15) throw new JpegDamage('a coefficient of more than 15 bits');
    return (this.means[i] += this.bits.signed(size));
  }

  /** F.2.2 */
  private readSequential(i: number, at: number): void {
    const { bits } = this;
    const { component, ac } = this.scan.parts[i];
    const { coefficients } = component;
    coefficients[at] = this.nextMean(i);
    for (let k = 1; k < 64; k++) {
      const symbol = bits.symbol(ac!);
      const size = symbol & 15;
      if (size === 0 && symbol !== 0xf0) return;
      k += symbol >> 4;
      if (size > 0) coefficients[at + place(k)] = bits.signed(size);
    }
  }

  /** G.1.2.1 */
  private readMean(i: number, at: number): void {
    this.scan.parts[i].component.coefficients[at] = this.nextMean(i) << this.scan.low;
  }

  private refineMean(i: number, at: number): void {
    this.scan.parts[i].component.coefficients[at] |= this.bits.number(1) << this.scan.low;
  }

  /** G.1.2.2 */
  private readBand(i: number, at: number): void {
    if (this.emptyBlocks > 0) {
      this.emptyBlocks--;
      return;
    }
    const { bits } = this;
    const { from, to, low, parts } = this.scan;
    const { component, ac } = parts[i];
    for (let k = from; k <= to; k++) {
      const symbol = bits.symbol(ac!);
      const run = symbol >> 4;
      const size = symbol & 15;
      if (size === 0 && run < 15) {
        this.emptyBlocks = (1 << run) + bits.number(run) - 1;
        return;
      }
      k += run;
      if (size > 0) component.coefficients[at + place(k)] = bits.signed(size) << low;
    }
  }

  /** G.1.2.3: a further bit of the coefficients that are known, between new ones of one bit. */
  private refineBand(i: number, at: number): void {
    const { bits } = this;
    const { from, to, low, parts } = this.scan;
    const { component, ac } = parts[i];
    const { coefficients } = component;
    let k = from;
    while (this.emptyBlocks === 0 && k <= to) {
      const symbol = bits.symbol(ac!);
      let run = symbol >> 4;
      const size = symbol & 15;
      if (size > 1) throw new JpegDamage('a refinement of more than one bit');
      if (size === 0 && run < 15) {
        this.emptyBlocks = (1 << run) + bits.number(run);
        break;
      }
      const value = size > 0 ? (bits.number(1) ? 1 << low : -(1 << low)) : 0;
      for (; k <= to; k++) {
        const where = at + ZIGZAG[k];
        if (coefficients[where] !== 0) this.refine(coefficients, where);
        else if (run-- === 0) break;
      }
      if (value !== 0) coefficients[at + place(k)] = value;
      k++;
    }
    if (this.emptyBlocks === 0) return;
    for (; k <= to; k++) if (coefficients[at + ZIGZAG[k]] !== 0) this.refine(coefficients, at + ZIGZAG[k]);
    this.emptyBlocks--;
  }

  private refine(coefficients: Int16Array, where: number): void {
    const bit = 1 << this.scan.low;
    const value = coefficients[where];
    if (this.bits.number(1) && !(value & bit)) coefficients[where] += value > 0 ? bit : -bit;
  }
}

function place(k: number): number {
  if (k > 63) throw new JpegDamage('more than 64 coefficients in a block');
  return ZIGZAG[k];
}
