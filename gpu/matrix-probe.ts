/**
 * Whether an adapter's matrix units are used, and which of their products: found out by computing. Drivers have crashed on such kernels, so it is done on
 * devices of its own, and where the host can, in a process of its own (host/).
 */
import type { MatrixUnit } from '../core/adapter.ts';
import { decodeF16, encodeF16 } from '../core/half.ts';
import { constant, input, type Tensor } from '../core/tensor.ts';
import { conv2d } from '../kernels/conv2d.ts';
import { linear } from '../kernels/linear.ts';
import { unitName } from '../kernels/matrices.ts';
import { type Device, openDevice } from './device.ts';
import { type MatrixChoice, NO_MATRICES } from './matrix-choice.ts';
import { type MatrixAdapter, matrixUnits, whyNoMatrices } from './matrix-units.ts';
import { compile, evaluate } from './program.ts';

/** Opens a device that uses a unit, or none. */
export type OpenWith = (unit: MatrixUnit | null) => Promise<Device>;

/** Tries the units of the preferred adapter. */
export async function chooseMatrixUnit(gpu: GPU, settle?: <T>(promise: Promise<T>) => Promise<T>): Promise<MatrixChoice> {
  const adapter = await (settle ?? ((promise) => promise))(gpu.requestAdapter({ powerPreference: 'high-performance' }));
  if (!adapter) return { ...NO_MATRICES, why: 'no adapter answered' };
  return tryUnits(adapter, (unit) => openDevice({ gpu, settle, schedule: unit ? 'matrix' : 'tiled', matrixUnit: unit ?? undefined }));
}

/** How many times as quick as the tiled schedule a unit must be: less is noise. */
const WORTH = 1.1;

/** Tokens and channels of the layers that are timed: SDXL's where it has most of its attention, at 1024 x 1024 pixels. */
const WORK = { tokens: 1024, channels: 1280 };

export async function tryUnits(adapter: MatrixAdapter, open: OpenWith, work = WORK): Promise<MatrixChoice> {
  const units = matrixUnits(adapter);
  if (units.length === 0) return { ...NO_MATRICES, why: whyNoMatrices(adapter) };
  const tiled = await using(open, null, (device) => millisecondsOf(device, work));
  const found: string[] = [];
  let best: { unit: MatrixUnit; ms: number } | null = null;
  for (const unit of units) {
    try {
      const ms = await using(open, unit, async (device) => ((await errorOf(device)) <= 1 ? millisecondsOf(device, work) : null));
      found.push(`${unitName(unit)}: ${ms === null ? 'wrong' : `${(tiled / ms).toFixed(2)} times as quick as without`}`);
      if (ms !== null && ms < (best?.ms ?? Number.POSITIVE_INFINITY)) best = { unit, ms };
    } catch (error) {
      found.push(`${unitName(unit)}: ${(error as Error).message}`);
    }
  }
  return { unit: best?.unit ?? null, quicker: best !== null && tiled / best.ms >= WORTH, why: found.join('; ') };
}

async function using<T>(open: OpenWith, unit: MatrixUnit | null, body: (device: Device) => Promise<T>): Promise<T> {
  const device = await open(unit);
  try {
    return await body(device);
  } finally {
    device.close();
  }
}

/** Numbers without a pattern that a fault could hide in; of both signs, up to `size`. */
function numbers(count: number, seed: number, size = 1): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return size * (state / 2 ** 31 - 1);
  });
}

/** Edges of every tile, and sums long enough for roundings that lean to one side to show: rows, numbers of a row and columns of a layer; then an image and its step. */
const [ROWS, INS, OUTS] = [67, 1044, 132];
const [HEIGHT, WIDTH, CHANNELS, STEP] = [9, 7, 12, 2];

/** The largest error of a layer and a convolution, as a share of what f32 allows: the bound of verify/accuracy.ts, with a rounding of each operand. */
async function errorOf(device: Device): Promise<number> {
  const x = numbers(ROWS * INS, 1, 30);
  const halves = encodeF16(numbers(OUTS * INS, 2));
  const w = decodeF16(halves);
  const layer = linear(constant(x, [ROWS, INS]), constant(halves, [OUTS, INS]));
  const image = numbers(HEIGHT * WIDTH * CHANNELS, 3, 0.1);
  const window = numbers(20 * 9 * CHANNELS, 4);
  const map = conv2d(constant(image, [1, HEIGHT, WIDTH, CHANNELS]), constant(window, [20, 3, 3, CHANNELS]), null, {
    stride: STEP,
    padding: 1,
  });
  const ow = map.shape[2];
  const ofLayer = await shareOf(device, layer, INS, (i, k) => x[Math.floor(i / OUTS) * INS + k] * w[(i % OUTS) * INS + k]);
  if (!(ofLayer <= 1)) return ofLayer;
  const ofMap = await shareOf(device, map, 9 * CHANNELS, (i, k) => {
    const [place, c] = [Math.floor(k / CHANNELS), k % CHANNELS];
    const down = Math.floor(i / 20 / ow) * STEP + Math.floor(place / 3) - 1;
    const across = (Math.floor(i / 20) % ow) * STEP + (place % 3) - 1;
    const inside = down >= 0 && down < HEIGHT && across >= 0 && across < WIDTH;
    return inside ? image[(down * WIDTH + across) * CHANNELS + c] * window[((i % 20) * 9 + place) * CHANNELS + c] : 0;
  });
  return Math.max(ofLayer, ofMap);
}

async function shareOf(device: Device, graph: Tensor, terms: number, term: (i: number, k: number) => number): Promise<number> {
  const found = await evaluate(device, graph);
  const exact = Float64Array.from(found, (_, i) => {
    let sum = 0;
    for (let k = 0; k < terms; k++) sum += term(i, k);
    return sum;
  });
  const norm = (values: Float64Array) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
  const size = norm(exact);
  const error = exact.map((value, i) => found[i] - value);
  const allowed = 2 ** -24 * (Math.sqrt(terms) + 3);
  const each = error.reduce((worst, value, i) => Math.max(worst, Math.abs(value) / (4 * allowed * (size + Math.abs(exact[i])))), 0);
  const share = Math.max(each, norm(error) / size / allowed);
  return Number.isNaN(share) ? Number.POSITIVE_INFINITY : share;
}

/** Enough work for a clock, a layer of SDXL's size after another within a submit, and how often it is run. */
const [CHAIN, RUNS] = [4, 4];

async function millisecondsOf(device: Device, { tokens, channels }: typeof WORK): Promise<number> {
  const weight = constant(encodeF16(numbers(channels * channels, 5, 0.05)), [channels, channels]);
  let y: Tensor = input('x', [tokens, channels]);
  for (let i = 0; i < CHAIN; i++) y = linear(y, weight);
  const program = await compile(device, { y });
  try {
    await program.run({ x: numbers(tokens * channels, 6) });
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < RUNS; i++) {
      const begun = performance.now();
      await program.run();
      best = Math.min(best, performance.now() - begun);
    }
    return best;
  } finally {
    program.dispose();
  }
}
