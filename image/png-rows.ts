/** A PNG's inflated bytes to rows of samples, as they come: filters and interlacing undone. (PNG specification, third edition, sections 7 to 9) */

export interface PngHeader {
  width: number;
  height: number;
  /** bits of a sample */
  depth: number;
  /** 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha */
  color: number;
  interlaced: boolean;
}

/** Samples of a pixel by colour type. */
export const SAMPLES: Record<number, number> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };

/** Pixels of the picture that rows hold: every `across`-th from `left` on of every `down`-th row from `top` on. */
interface Pass {
  left: number;
  top: number;
  across: number;
  down: number;
}

const WHOLE: Pass[] = [{ left: 0, top: 0, across: 1, down: 1 }];
/** Section 8.1 */
const ADAM7: Pass[] = [
  { left: 0, top: 0, across: 8, down: 8 },
  { left: 4, top: 0, across: 8, down: 8 },
  { left: 0, top: 4, across: 4, down: 8 },
  { left: 2, top: 0, across: 4, down: 4 },
  { left: 0, top: 2, across: 2, down: 4 },
  { left: 1, top: 0, across: 2, down: 2 },
  { left: 0, top: 1, across: 1, down: 2 },
];

/** Gets a row: its bytes, how many pixels they hold, and where in the picture (pixels counted row by row) the first lies and how far apart they are. */
type PutRow = (row: Uint8Array, columns: number, first: number, apart: number) => void;

export class PngRows {
  /** Whether all rows have come. */
  complete = false;
  /** Whether bytes came behind them. */
  beyond = false;
  /** What is wrong, when a row cannot be read. */
  fault: string | null = null;
  private readonly width: number;
  private readonly height: number;
  /** bits of a pixel */
  private readonly bits: number;
  private readonly put: PutRow;
  private readonly passes: Iterator<Pass>;
  private pass: Pass = WHOLE[0];
  private columns = 0;
  private y = 0;
  /** the row that is being filled, with its filter byte, and the one before it */
  private row = new Uint8Array();
  private above = new Uint8Array();
  private filled = 0;

  constructor({ width, height, depth, color, interlaced }: PngHeader, put: PutRow) {
    this.width = width;
    this.height = height;
    this.bits = depth * SAMPLES[color];
    this.put = put;
    this.passes = (interlaced ? ADAM7 : WHOLE).filter(({ left, top }) => left < width && top < height)[Symbol.iterator]();
    this.nextPass();
  }

  /** Takes bytes; false when all rows have come, or one cannot be read. */
  take(bytes: Uint8Array): boolean {
    for (let at = 0; at < bytes.length; ) {
      this.beyond = this.complete;
      if (this.complete) break;
      const part = bytes.subarray(at, at + this.row.length - this.filled);
      this.row.set(part, this.filled);
      this.filled += part.length;
      at += part.length;
      if (this.filled < this.row.length) break;
      if (this.row[0] > 4) {
        this.fault = `filter ${this.row[0]}`;
        return false;
      }
      this.finishRow();
    }
    return !this.complete;
  }

  private finishRow(): void {
    const { pass, row, width } = this;
    const { left, across, down } = pass;
    unfilter(row, this.above, Math.max(1, this.bits >> 3));
    this.put(row.subarray(1), this.columns, this.y * width + left, across);
    [this.row, this.above, this.filled] = [this.above, row, 0];
    this.y += down;
    if (this.y >= this.height) this.nextPass();
  }

  private nextPass(): void {
    const { done, value } = this.passes.next();
    this.complete = done === true;
    if (done) return;
    this.pass = value;
    this.y = value.top;
    this.columns = Math.ceil((this.width - value.left) / value.across);
    const size = 1 + Math.ceil((this.columns * this.bits) / 8);
    [this.row, this.above, this.filled] = [new Uint8Array(size), new Uint8Array(size), 0];
  }
}

/** Undoes the filter that the row's first byte names; `step` bytes lie between samples that belong together. (section 9.2) */
function unfilter(row: Uint8Array, above: Uint8Array, step: number): void {
  const { length } = row;
  switch (row[0]) {
    case 1:
      for (let i = 1 + step; i < length; i++) row[i] += row[i - step];
      break;
    case 2:
      for (let i = 1; i < length; i++) row[i] += above[i];
      break;
    case 3:
      for (let i = 1; i < length; i++) row[i] += ((i > step ? row[i - step] : 0) + above[i]) >> 1;
      break;
    case 4:
      for (let i = 1; i < length; i++) row[i] += i > step ? nearest(row[i - step], above[i], above[i - step]) : above[i];
      break;
  }
}

/** The one of left, above and upper left that is nearest to left + above - upper left, the first of equals. (section 9.4, Paeth) */
function nearest(left: number, above: number, corner: number): number {
  const toLeft = Math.abs(above - corner);
  const toAbove = Math.abs(left - corner);
  const toCorner = Math.abs(left + above - 2 * corner);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}
