/**
 * PyTorch's random numbers on NVIDIA GPUs, so that a seed gives the noise it gives there: the counter-based generator Philox 4x32-10 (Salmon
 * et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), Box-Muller as cuRAND's curand_normal4 computes it, and the order in which the
 * threads of torch.randn's kernel fill the tensor.
 *
 * Which thread fills which element depends on how many threads the GPU holds: up to that many values a draw is the same on every GPU, beyond
 * it only on GPUs of one size. Checked against values that A100 and H100 printed (test/philox.test.ts); logarithm, sine and cosine there are
 * the GPU's own, so the last place of a value may differ.
 */
import { UserError } from './errors.ts';

/** Threads of a block in torch.randn's kernel, and values a thread draws at once. */
const BLOCK = 256;
const AT_ONCE = 4;

/** 2^-32 and 2 pi 2^-32 as cuRAND has them, in f32. */
const TO_UNIT = 2 ** -32;
const TO_ANGLE = Math.fround(TO_UNIT * Math.fround(6.2831855));

export interface GpuSize {
  /** Streaming multiprocessors of the GPU. Default 108 (A100). */
  multiprocessors?: number;
  /** Threads that one of them holds: 2048 (A100, H100), 1536 (RTX 30 and 40), 1024 (RTX 20). Default 2048. */
  threadsPerMultiprocessor?: number;
}

export class TorchCudaRandom {
  readonly #key: [low: number, high: number];
  readonly #mostBlocks: number;
  /** Calls of Philox that every thread has made. */
  #calls = 0;

  /** Like torch.cuda.manual_seed: a whole number, of which the low 64 bits count. @throws UserError if it is not whole. */
  constructor(seed: number | bigint, { multiprocessors = 108, threadsPerMultiprocessor = 2048 }: GpuSize = {}) {
    if (typeof seed === 'number' && !Number.isSafeInteger(seed)) {
      throw new UserError(`The seed ${seed} is not a whole number below 2^53. Choose one from 0 to 4294967295.`);
    }
    const bits = BigInt.asUintN(64, BigInt(seed));
    this.#key = [Number(bits & 0xffffffffn), Number(bits >> 32n)];
    this.#mostBlocks = multiprocessors * Math.floor(threadsPerMultiprocessor / BLOCK);
  }

  /** torch.randn(n, device='cuda'): unit normal, f32. Only the number of elements matters, so it serves any shape. */
  randn(n: number): Float32Array {
    const threads = BLOCK * Math.min(this.#mostBlocks, Math.ceil(n / BLOCK));
    const values = new Float32Array(n);
    const words = new Uint32Array(4);
    for (let start = 0; start < n; start += threads * AT_ONCE, this.#calls++) {
      for (let thread = 0; thread < threads && start + thread < n; thread++) {
        words.set([this.#calls, 0, thread, 0]);
        philox4x32(words, this.#key);
        for (let i = 0, at = start + thread; i < AT_ONCE && at < n; i++, at += threads) {
          // Words 0 and 1 make the values 0 and 1, words 2 and 3 the values 2 and 3.
          values[at] = boxMuller(words[i & 2], words[i | 1], i % 2 === 1);
        }
      }
    }
    return values;
  }
}

/** Ten rounds of Philox 4x32 over a counter of four words, in place. */
export function philox4x32(counter: Uint32Array, [key0, key1]: readonly [number, number]): void {
  let [c0, c1, c2, c3] = counter;
  for (let round = 0, k0 = key0, k1 = key1; round < 10; round++, k0 += 0x9e3779b9, k1 += 0xbb67ae85) {
    const [high0, low0] = [multiplyHigh(0xd2511f53, c0), Math.imul(0xd2511f53, c0)];
    const [high1, low1] = [multiplyHigh(0xcd9e8d57, c2), Math.imul(0xcd9e8d57, c2)];
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
  }
  counter[0] = c0;
  counter[1] = c1;
  counter[2] = c2;
  counter[3] = c3;
}

/** The upper 32 bits of the product of two unsigned words. Every partial sum stays below 2^32. */
function multiplyHigh(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const across = aHigh * bLow + ((aLow * bLow) >>> 16);
  return aHigh * bHigh + (across >>> 16) + ((aLow * bHigh + (across & 0xffff)) >>> 16);
}

/** One normal of the pair that two words make: the sine's, or the cosine's. Rounded to f32 where the GPU rounds. */
function boxMuller(x: number, y: number, cosine: boolean): number {
  const u = Math.fround(Math.fround(x) * TO_UNIT + TO_UNIT / 2);
  const angle = Math.fround(Math.fround(y) * TO_ANGLE + TO_ANGLE / 2);
  const radius = Math.fround(Math.sqrt(-2 * Math.log(u)));
  return Math.fround(radius * (cosine ? Math.cos(angle) : Math.sin(angle)));
}
