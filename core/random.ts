/**
 * PyTorch's CPU random numbers, so that a seed gives the noise it gives there: mt19937 (Matsumoto & Nishimura 1998) and Box-Muller normals
 * in the order in which torch.randn draws them.
 */
import { UserError } from './errors.ts';

const STATE_WORDS = 624;
const SHIFT_WORDS = 397;
/** Sizes from here on are drawn in blocks of 16 values, smaller ones value by value. */
const BLOCK = 16;

export class TorchRandom {
  readonly #state = new Uint32Array(STATE_WORDS);
  #used = STATE_WORDS;
  /** The second value of a value-by-value pair, kept for the next such draw, across calls. */
  #kept: number | undefined;

  /** Like torch.manual_seed: a whole number of either sign, of which the low 32 bits count. @throws UserError if it is not whole. */
  constructor(seed: number | bigint) {
    if (typeof seed === 'number' && !Number.isSafeInteger(seed)) {
      throw new UserError(`The seed ${seed} is not a whole number below 2^53. Choose one from 0 to 4294967295.`);
    }
    const state = this.#state;
    state[0] = Number(BigInt.asUintN(32, BigInt(seed)));
    for (let i = 1; i < STATE_WORDS; i++) state[i] = Math.imul(state[i - 1] ^ (state[i - 1] >>> 30), 1812433253) + i;
  }

  /** The next word, 0 to 2^32 - 1. */
  uint32(): number {
    if (this.#used === STATE_WORDS) this.#twist();
    let y = this.#state[this.#used++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** torch.rand(n): uniform in [0, 1), multiples of 2^-24. */
  rand(n: number): Float32Array {
    return this.#fillUniform(new Float32Array(n));
  }

  /** torch.randn(n): unit normal. Only the number of elements matters, so it serves any shape. */
  randn(n: number): Float32Array {
    if (n < BLOCK) return Float32Array.from({ length: n }, () => this.#normal());
    const values = this.rand(n);
    for (let i = 0; i + BLOCK <= n; i += BLOCK) boxMuller(values.subarray(i, i + BLOCK));
    if (n % BLOCK > 0) boxMuller(this.#fillUniform(values.subarray(n - BLOCK)));
    return values;
  }

  #twist(): void {
    const s = this.#state;
    for (let i = 0; i < STATE_WORDS; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % STATE_WORDS] & 0x7fffffff);
      s[i] = s[(i + SHIFT_WORDS) % STATE_WORDS] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#used = 0;
  }

  #fillUniform(values: Float32Array): Float32Array {
    for (let i = 0; i < values.length; i++) values[i] = (this.uint32() & 0xffffff) / 2 ** 24;
    return values;
  }

  /** Uniform in [0, 1) with 53 bits, of two words, the high one first. */
  #uniform53(): number {
    const high = this.uint32() & 0x1fffff;
    return (high * 2 ** 32 + this.uint32()) / 2 ** 53;
  }

  #normal(): number {
    if (this.#kept !== undefined) {
      const value = this.#kept;
      this.#kept = undefined;
      return value;
    }
    const angle = 2 * Math.PI * this.#uniform53();
    const radius = Math.sqrt(-2 * Math.log1p(-this.#uniform53()));
    this.#kept = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }
}

/** 16 uniforms -> 16 normals in place: value j gives the radius and value j + 8 the angle of the pair (j, j + 8). */
function boxMuller(values: Float32Array): void {
  for (let j = 0; j < BLOCK / 2; j++) {
    const radius = Math.sqrt(-2 * Math.log(1 - values[j]));
    const angle = 2 * Math.PI * values[j + 8];
    values[j] = radius * Math.cos(angle);
    values[j + 8] = radius * Math.sin(angle);
  }
}
