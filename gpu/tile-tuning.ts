/**
 * Which tiles are quicker on a GPU, found out once: matmuls, convolutions and attention of SDXL's sizes are timed with both, in under a second in all,
 * and what was found is kept. Results are the same bits with either, so nothing but time depends on it. Processors are not timed: they follow
 * another schedule.
 */
import { type TiledWork, type TileSize, type TileSizes, USUAL_TILES } from '../core/adapter.ts';
import { DeviceError } from '../core/errors.ts';
import { isRecord } from '../core/json.ts';
import type { Notes } from '../core/notes.ts';
import { constant } from '../core/tensor.ts';
import { attention } from '../kernels/attention.ts';
import { conv2d } from '../kernels/conv2d.ts';
import { linear } from '../kernels/linear.ts';
import { AdapterNotes } from './adapter-notes.ts';
import type { Device } from './device.ts';
import { chained, msOfRun, type Repeated, repeated } from './timing.ts';

/** Milliseconds of each work with each tile. */
export type TileTimes = Partial<Record<TiledWork, Record<TileSize, number>>>;

export interface TileTuning {
  tiles: TileSizes;
  /** Of what was timed; empty where nothing was. */
  times: TileTimes;
}

export interface TuningOptions {
  /** Default: all, the most important first. */
  works?: readonly TiledWork[];
  /** Seconds after which no more is begun; what is not timed then stays as usual. Default 0.8. */
  seconds?: number;
  /** Milliseconds that some work takes with a tile. Default: measured on the device. */
  time?: (work: TiledWork, size: TileSize) => Promise<number>;
}

/** What is timed, with the first operand as an input and so often. Of what is chained each waits for the one before, as in networks. */
const WORKS: Readonly<Record<TiledWork, Repeated>> = {
  manyRows: chained([2048, 640], () => {
    const w = weight([640, 640]);
    return (y) => linear(y, w);
  }),
  fewRows: chained([256, 640], () => {
    const w = weight([640, 640]);
    return (y) => linear(y, w);
  }),
  manyWindows: repeated([1, 96, 96, 128], () => {
    const w = weight([512, 3, 3, 128]);
    return (x) => conv2d(x, w, null, { padding: 1, stride: 2 });
  }),
  fewWindows: repeated([1, 32, 32, 320], () => {
    const w = weight([320, 3, 3, 320]);
    return (x) => conv2d(x, w, null, { padding: 1, stride: 2 });
  }),
  fewQueries: chained([1, 256, 640], () => (y) => attention(y, y, y, 10)),
};

/** Quicker by less than this share may be chance. */
const CLEAR = 0.1;
/** Dispatches of a run; many where so few take less than so many milliseconds, for what a run takes beside them would be timed. */
const [REPEATS, MANY_REPEATS, SHORT] = [4, 32, 2];
const RUNS = 2;
const NOTE = 'tiles';

/** Makes the device choose the quicker tiles: those that notes have, else timed ones, which are noted. Where timing fails it stays as usual. */
export async function tuneTiles(device: Device, notes: Notes, options: TuningOptions = {}): Promise<void> {
  if (device.facts.software || device.facts.schedule === 'subgroup') return;
  const known = new AdapterNotes(notes, device.facts);
  const noted = await known.read(NOTE);
  if (isTiles(noted)) {
    device.facts.tiles = noted;
    return;
  }
  try {
    const { tiles } = await timedTiles(device, options);
    device.facts.tiles = tiles;
    await known.write(NOTE, tiles);
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    device.facts.tiles = USUAL_TILES; // a lost device is told by what comes next
  }
}

/** Times both tiles, whatever is noted. Throws DeviceError where the device is lost or refuses a kernel. */
export async function timedTiles(device: Device, options: TuningOptions = {}): Promise<TileTuning> {
  const { works = Object.keys(WORKS) as TiledWork[], seconds = 0.8, time = timer(device) } = options;
  const begun = performance.now();
  const before = device.facts.tiles;
  const times: TileTimes = {};
  const tiles = { ...USUAL_TILES };
  try {
    const isOver = () => performance.now() - begun > 1000 * seconds;
    for (const work of works) {
      if (isOver()) break;
      const large = await time(work, 'large');
      if (isOver()) break;
      const found = { large, small: await time(work, 'small') };
      times[work] = found;
      const usual = USUAL_TILES[work];
      const other = usual === 'large' ? 'small' : 'large';
      if (found[other] < (1 - CLEAR) * found[usual]) tiles[work] = other;
    }
  } finally {
    device.facts.tiles = before;
  }
  return { tiles, times };
}

function timer(device: Device): NonNullable<TuningOptions['time']> {
  const repeats = new Map<TiledWork, number>();
  const timed = async (work: TiledWork, size: TileSize, count: number) => {
    device.facts.tiles = { ...USUAL_TILES, [work]: size };
    return (await msOfRun(device, WORKS[work], count, RUNS)) / count;
  };
  return async (work, size) => {
    if (!repeats.has(work)) {
      const few = await timed(work, size, REPEATS);
      repeats.set(work, few * REPEATS < SHORT ? MANY_REPEATS : REPEATS);
      if (few * REPEATS >= SHORT) return few;
    }
    return timed(work, size, repeats.get(work)!);
  };
}

function isTiles(noted: unknown): noted is TileSizes {
  return isRecord(noted) && Object.keys(USUAL_TILES).every((work) => noted[work] === 'large' || noted[work] === 'small');
}

const weight = (shape: number[]) => constant(new Uint16Array(shape.reduce((a, b) => a * b)).fill(0x1000), shape);
