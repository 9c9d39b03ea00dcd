/** The coded bits of a JPEG's scan: Huffman codes, and the numbers behind them. (ITU T.81, annexes C and F; B.1.1.5 for stuffed bytes) */

/** What a JPEG file holds is not what its own words promise. The message is the end of a sentence about the file. */
export class JpegDamage extends Error {}

/** A Huffman table: codes of up to 8 bits by look-up, longer ones by the largest code of their length. */
export class HuffmanTable {
  /** by the next 8 bits: the code's length times 256, and its symbol; 0 where the code is longer */
  readonly short = new Uint16Array(256);
  /** the largest code of each length, -1 where there is none */
  readonly largest = new Int32Array(17).fill(-1);
  /** what is to be added to a code of each length for its symbol's place */
  readonly offset = new Int32Array(17);
  readonly symbols: Uint8Array;

  /** `counts` of codes by length, 1 to 16 bits, and their symbols. Throws JpegDamage if there are more codes than bits allow. */
  constructor(counts: ArrayLike<number>, symbols: Uint8Array) {
    this.symbols = symbols;
    for (let length = 1, code = 0, place = 0; length <= 16; length++, code <<= 1) {
      this.offset[length] = place - code;
      for (let i = 0; i < counts[length - 1]; i++, code++, place++) {
        if (code >= 1 << length) throw new JpegDamage('a Huffman table with too many codes');
        if (length <= 8) this.short.fill((length << 8) | symbols[place], code << (8 - length), (code + 1) << (8 - length));
      }
      if (counts[length - 1] > 0) this.largest[length] = code - 1;
    }
  }
}

/** Reads bits up to the next marker, the highest first. Asking for more than there are throws JpegDamage: data are lost. */
export class JpegBits {
  /** offset of the first byte that was not taken */
  at: number;
  private readonly bytes: Uint8Array;
  private held = 0;
  private count = 0;

  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  /** A number of `length` bits, 0 to 16. */
  number(length: number): number {
    if (length === 0) return 0;
    const value = this.peek(length);
    this.drop(length);
    return value;
  }

  /** A signed number of `length` bits, whose highest bit says that it is positive. (F.2.2.1, EXTEND) */
  signed(length: number): number {
    const value = this.number(length);
    return length > 0 && value < 1 << (length - 1) ? value - (1 << length) + 1 : value;
  }

  symbol(table: HuffmanTable): number {
    const entry = table.short[this.peek(8)];
    if (entry > 0) {
      this.drop(entry >> 8);
      return entry & 255;
    }
    for (let length = 9; length <= 16; length++) {
      const code = this.peek(length);
      if (code > table.largest[length]) continue;
      this.drop(length);
      return table.symbols[table.offset[length] + code];
    }
    throw new JpegDamage(this.count < 16 ? CUT_OFF : 'a bit pattern that is no code');
  }

  /**
   * Goes on behind the restart marker of this number, 0 to 7; bytes before it that belong to nothing are passed over, and so are markers that came
   * before. (F.2.2.5) Throws JpegDamage if another marker stands there.
   */
  restart(number: number): void {
    [this.held, this.count] = [0, 0];
    for (;;) {
      const at = nextMarker(this.bytes, this.at);
      const found = at < 0 ? -1 : this.bytes[at + 1] - 0xd0;
      if (!(found >= 0 && found <= 7)) throw new JpegDamage(CUT_OFF);
      this.at = at + 2;
      if (found === number) return;
      if (((number - found) & 7) > 2) throw new JpegDamage('restart markers out of order');
    }
  }

  /** The next bits without taking them, zeros behind the last one. */
  private peek(length: number): number {
    if (this.count < length) this.fill();
    const missing = length - this.count;
    return missing > 0 ? (this.held << missing) & ((1 << length) - 1) : (this.held >>> -missing) & ((1 << length) - 1);
  }

  private drop(length: number): void {
    if (length > this.count) throw new JpegDamage(CUT_OFF);
    this.count -= length;
  }

  private fill(): void {
    const { bytes } = this;
    while (this.count <= 16 && this.at < bytes.length) {
      const byte = bytes[this.at];
      if (byte === 0xff) {
        let next = this.at + 1;
        while (bytes[next] === 0xff) next++;
        if (bytes[next] !== 0) return; // a marker
        this.at = next;
      }
      this.at++;
      this.held = (this.held << 8) | byte;
      this.count += 8;
    }
  }
}

const CUT_OFF = 'its data break off';

/** Offset of the next marker's last FF byte, from `at` on; -1 if there is none. Fill bytes and stuffed ones are passed over. (B.1.1.2) */
export function nextMarker(bytes: Uint8Array, at: number): number {
  for (;;) {
    at = bytes.indexOf(0xff, at);
    if (at < 0 || at + 1 >= bytes.length) return -1;
    if (bytes[at + 1] !== 0 && bytes[at + 1] !== 0xff) return at;
    at += bytes[at + 1] === 0 ? 2 : 1;
  }
}
