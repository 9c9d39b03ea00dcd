/**
 * The autoencoder on images of any size: whole where it fits, else in tiles with exact group norms, so that the result is that of the whole
 * (to f32 rounding) and GPU memory is that of a tile. For parity with the published program there is its approximate tiling too: tiles with a
 * border of their own are run side by side, and their group norms share the pixel-weighted mean of the tiles' means and variances.
 */

import { ShapeError } from '../core/errors.ts';
import { topological } from '../core/graph.ts';
import { isOp } from '../core/op.ts';
import type { Plan } from '../core/plan.ts';
import { input, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { evaluate } from '../gpu/program.ts';
import { conv2dOp } from '../kernels/conv2d.ts';
import { plan } from '../kernels/fusion.ts';
import { groupNormOp } from '../kernels/group-norm.ts';
import { FeatureMap, type MapWindow, type Range, windowShape } from '../models/feature-map.ts';
import { type GraphKind, planTiles, type TilePlan } from '../models/tile-plan.ts';
import { type NormMoments, runTiled, type TiledOptions } from '../models/tiled-graph.ts';
import type { Values } from './values.ts';

export const VAE_TILINGS = ['auto', 'exact', 'published', 'off'] as const;

export interface VaeTiling {
  /** auto: exact tiles for images too large to run whole. exact, published: always, the latter beyond its own size. off: always whole. */
  how: (typeof VAE_TILINGS)[number];
  /** Bytes of intermediates up to which `auto` runs whole, where no binding is too large. */
  mostWhole: number;
  /** Exact tiles: bytes of a tile's largest feature map. */
  tileBytes: number;
  /** Published tiles: side of the encoder's in pixels, of the decoder's in latent pixels, without their borders. */
  encoderTile: number;
  decoderTile: number;
}

export const VAE_TILING: VaeTiling = { how: 'auto', mostWhole: 2 ** 30, tileBytes: 32 * 2 ** 20, encoderTile: 512, decoderTile: 64 };

/** Border of the published tiles: pixels for the encoder, latent pixels for the decoder. */
export const BORDER = { encoder: 32, decoder: 11 };

/** A graph of feature maps for an input of any size (N, H, W, C). */
export type BuildGraph = (x: Tensor) => Tensor;

export interface TilingEvents extends Pick<TiledOptions, 'signal' | 'onTile'> {
  /** How the picture is divided, before the work begins. */
  onChoice?: (choice: TilingChoice) => void | Promise<void>;
}

export type Half = 'encoder' | 'decoder';

export type ChosenTiling = 'whole' | 'exact' | 'published';

export interface TilingChoice {
  how: ChosenTiling;
  /** GFLOP of exact and of published tiles, where `auto` chose between them. */
  weighed: { exact: number; published: number } | null;
}

/** Runs an encoder or decoder on x (N, H, W, C). Throws ShapeError when it must run whole and does not fit the adapter. */
export async function runAutoencoder(
  device: Device,
  half: Half,
  build: BuildGraph,
  x: Values,
  tiling: VaeTiling,
  events: TilingEvents = {},
): Promise<Values> {
  const { budget, taken } = device.residency;
  const memory = { budget, taken };
  const { how, weighed, output } = choose(device, half, build, x.shape, tiling, memory);
  await events.onChoice?.({ how, weighed });
  if (how === 'whole') return { data: await evaluate(device, output, { x: x.data }, events.signal), shape: output.shape };
  const options = { ...memoryOf(tiling, memory), ...events };
  if (how === 'published') return runPublishedTiles(device, half, build, x, sideOf(half, tiling), 'normal', options);
  const { results } = await runTiled(device, [{ output, input: new FeatureMap(x.shape, x.data) }], options);
  return { data: results[0].data(), shape: output.shape };
}

/** What `runAutoencoder` will do. */
export interface AutoencoderForecast extends TilingChoice {
  tiles: number;
  /** Host memory of feature maps at most, in bytes. */
  hostBytes: number;
  /** One after the other, each with its number of runs and the GPU memory in use beside it and weights. */
  programs: { plan: Plan; runs: number; beside: number }[];
}

/** What `runAutoencoder` will do on x of `shape` when the device has that budget to itself; nothing is run. Throws ShapeError as it does. */
export function forecastAutoencoder(
  device: Device,
  half: Half,
  build: BuildGraph,
  shape: Shape,
  tiling: VaeTiling,
  budget: number,
): AutoencoderForecast {
  const { how, weighed, output, tiles, whole } = choose(device, half, build, shape, tiling, { budget, taken: 0 });
  if (tiles) return { how, weighed, tiles: tiles.tiles, hostBytes: tiles.hostBytes, programs: tiles.programs };
  return {
    how,
    weighed,
    tiles: 1,
    hostBytes: 0,
    programs: [{ plan: whole ?? plan({ output }, device.facts, device.gpu.limits), runs: 1, beside: 0 }],
  };
}

/** The device's budget, and what is in use of it that cannot leave, in bytes. */
export interface Memory {
  budget: number;
  taken: number;
}

interface Chosen extends TilingChoice {
  /** The graph of the whole. */
  output: Tensor;
  /** Null where it runs whole. */
  tiles: TilePlan | null;
  /** Of the whole, where that was planned to choose it. */
  whole?: Plan;
}

/**
 * Exact tiles give the numbers of the whole: `auto` takes published ones only where exact ones would take more than so many times their time, and
 * more GFLOP than can be waited for, a second or so on a GPU. What decides is arithmetic, so that a photo is treated alike on every machine.
 */
const [WORTH, AFFORDABLE] = [2, 8000];

function choose(device: Device, half: Half, build: BuildGraph, shape: Shape, tiling: VaeTiling, memory: Memory): Chosen {
  const output = build(input('x', shape));
  const options = memoryOf(tiling, memory);
  const isLarge = Math.max(shape[1], shape[2]) > sideOf(half, tiling) + 2 * BORDER[half];
  const tiled = (kinds: GraphKind[]) => planTiles(kinds, options, device.facts, device.gpu.limits);
  const exact = () => tiled([{ output, count: 1 }]);
  const kinds = () => publishedKinds(half, build, shape, output, sideOf(half, tiling));
  const chosen = (how: ChosenTiling, tiles: TilePlan | null, weighed: TilingChoice['weighed'] = null) => ({ how, tiles, weighed, output });
  if (tiling.how === 'off') {
    checkWhole(device, half, output, shape);
    return chosen('whole', null);
  }
  if (tiling.how === 'published') return isLarge ? chosen('published', tiled(kinds())) : chosen('whole', null);
  if (tiling.how === 'exact') return chosen('exact', exact());
  const whole = planWithin(device, output, Math.min(tiling.mostWhole, memory.budget / 2));
  if (whole) return { ...chosen('whole', null), whole };
  if (!isLarge) return chosen('exact', exact());
  const published = kinds();
  const weighed = { exact: gflopOf([{ output, count: 1 }]), published: gflopOf(published) };
  if (weighed.exact > Math.max(WORTH * weighed.published, AFFORDABLE)) return chosen('published', tiled(published), weighed);
  return chosen('exact', exact(), weighed);
}

/** GFLOP of graphs by their operations' definitions, whatever the adapter and its memory. */
function gflopOf(kinds: GraphKind[]): number {
  const flopsOf = (tensor: Tensor) => {
    const { source, shape } = tensor;
    return source.kind === 'op' ? (source.op.flops?.(source.inputs, { shape }, source.attrs) ?? 0) : 0;
  };
  return (
    kinds.reduce((sum, { output, count }) => sum + count * topological([output]).reduce((all, each) => all + flopsOf(each), 0), 0) / 1e9
  );
}

/** GPU memory that a network in tiles takes where nothing bounds it. */
const UNBOUNDED = 3 * 2 ** 30;

/** What tiles may have: small enough that some ten maps of a tile, and weights, fit the budget. */
export function memoryOf({ tileBytes }: VaeTiling, { budget, taken }: Memory): Pick<TiledOptions, 'tileBytes' | 'budget'> {
  const all = Number.isFinite(budget) ? budget : UNBOUNDED + taken;
  return { tileBytes: Math.min(tileBytes, all / 24), budget: all - taken };
}

/** The plan of the whole, if it fits the adapter and has at most so many bytes of intermediates. */
function planWithin(device: Device, output: Tensor, most: number): Plan | null {
  try {
    const whole = plan({ output }, device.facts, device.gpu.limits);
    return whole.bytes.intermediates <= most ? whole : null;
  } catch (error) {
    if (error instanceof ShapeError) return null;
    throw error;
  }
}

/** Throws ShapeError, in words about the picture, where the whole does not fit the adapter. */
function checkWhole(device: Device, half: Half, output: Tensor, shape: Shape): void {
  try {
    plan({ output }, device.facts, device.gpu.limits);
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    const [, height, width] = half === 'encoder' ? shape : output.shape;
    const { bytes, allowed } = error.values ?? {};
    const mb = (number: unknown) => `${Math.ceil(Number(number) / 1e6)} MB`;
    throw new ShapeError(
      `A picture of ${width} x ${height} pixels is too large to be ${half === 'encoder' ? 'encoded' : 'decoded'} in one piece on this GPU: a feature map takes ${mb(bytes)}, and it takes at most ${mb(allowed)} at a time. Let the autoencoder work in tiles (auto or exact), which gives the same picture, or make it smaller.`,
      { option: 'vaeTiling', values: { width, height, bytes, allowed }, cause: error },
    );
  }
}

/** Side of the published tiles without their borders. */
function sideOf(half: Half, { encoderTile, decoderTile }: VaeTiling): number {
  return half === 'encoder' ? encoderTile : decoderTile;
}

/**
 * normal: moments from the tiles. fast: from the whole image at the tile's size, with the image's colours. fast_colorfix: these up to the first
 * reduction, then from the tiles.
 */
export type PublishedMode = 'normal' | 'fast' | 'fast_colorfix';

/** The published tiling, whatever the size. `tile` is the side without borders, in x's pixels. */
export async function runPublishedTiles(
  device: Device,
  half: Half,
  build: BuildGraph,
  x: Values,
  tile: number,
  mode: PublishedMode,
  options: TiledOptions = memoryOf(VAE_TILING, device.residency),
): Promise<Values> {
  const [, h, w] = x.shape;
  const whole = build(input('x', x.shape));
  const factor = whole.shape[1] / h;
  const tiles = publishedTiles(h, w, tile, BORDER[half], factor);
  const source = new FeatureMap(x.shape, x.data);
  const moments = mode === 'normal' ? undefined : await estimateMoments(device, build, x, tile, mode, options);
  const outputOf = sharedGraphs(build);
  const graphs = tiles.map(({ read }) => {
    const shape = windowShape(x.shape, read);
    return { output: outputOf(shape), input: new FeatureMap(shape, source.read(read)) };
  });
  const { results } = await runTiled(device, graphs, { ...options, moments });
  const joined = new FeatureMap(whole.shape, new Float32Array(sizeOf(whole.shape)));
  tiles.forEach(({ read, written }, i) => {
    const within = ({ start, end }: Range, from: Range) => ({ start: start - from.start * factor, end: end - from.start * factor });
    joined.write(written, results[i].read({ rows: within(written.rows, read.rows), columns: within(written.columns, read.columns) }));
  });
  return { data: joined.data(), shape: whole.shape };
}

/** One graph for each shape of input. */
function sharedGraphs(build: BuildGraph): (shape: Shape) => Tensor {
  const made = new Map<string, Tensor>();
  return (shape) => {
    const key = String(shape);
    if (!made.has(key)) made.set(key, build(input('x', shape)));
    return made.get(key)!;
  };
}

/** The graphs of the published tiles of an input. */
function publishedKinds(half: Half, build: BuildGraph, shape: Shape, whole: Tensor, tile: number): GraphKind[] {
  const outputOf = sharedGraphs(build);
  const counts = new Map<Tensor, number>();
  for (const { read } of publishedTiles(shape[1], shape[2], tile, BORDER[half], whole.shape[1] / shape[1])) {
    const output = outputOf(windowShape(shape, read));
    counts.set(output, (counts.get(output) ?? 0) + 1);
  }
  return [...counts].map(([output, count]) => ({ output, count }));
}

/** Where a tile reads its input and what of the result is taken from it. */
export interface PublishedTile {
  read: MapWindow;
  written: MapWindow;
}

/** The published tiles of an input of height x width, row by row; `factor`: size of the result over that of the input. */
export function publishedTiles(height: number, width: number, tile: number, border: number, factor: number): PublishedTile[] {
  const spans = (length: number) => {
    const inner = Math.max(length - 2 * border, 0);
    const count = Math.max(1, Math.ceil(inner / tile));
    const side = roundTile(Math.ceil(inner / count), tile);
    return Array.from({ length: count }, (_, i) => {
      const [start, end] = [border + i * side, Math.min(border + (i + 1) * side, length)];
      const [from, to] = [start > border ? start : 0, end < length - border ? end : length];
      return {
        read: { start: Math.max(start - border, 0), end: Math.min(end + border, length) },
        written: { start: from * factor, end: to * factor },
      };
    });
  };
  return spans(height).flatMap((rows) =>
    spans(width).map((columns) => ({
      read: { rows: rows.read, columns: columns.read },
      written: { rows: rows.written, columns: columns.written },
    })),
  );
}

/** The least multiple of 32 from `side` on that is at most `most`, else of 16, 8, 4 or 2; else `side` itself. */
function roundTile(side: number, most: number): number {
  for (const unit of [32, 16, 8, 4, 2]) {
    const rounded = Math.ceil(side / unit) * unit;
    if (rounded <= most) return rounded;
  }
  return side;
}

/** Moments of the whole input reduced to a tile's size, with its colours restored. */
async function estimateMoments(
  device: Device,
  build: BuildGraph,
  x: Values,
  tile: number,
  mode: PublishedMode,
  options: TiledOptions,
): Promise<NormMoments> {
  const reduced = reduceLikeWhole(x, tile);
  const output = build(input('x', reduced.shape));
  const graph = { output, input: new FeatureMap(reduced.shape, reduced.data) };
  const { moments } = await runTiled(device, [graph], { ...options, onTile: undefined, readMoments: true });
  if (mode === 'fast') return moments;
  const order = topological([output]);
  const reduction = order.findIndex((tensor) => isOp(tensor, conv2dOp) && tensor.source.attrs.stride > 1);
  const early = order.flatMap((tensor, i) => (isOp(tensor, groupNormOp) && i < reduction ? [i] : []));
  return new Map(early.map((i) => [i, moments.get(i)!]));
}

/** x so that its longer side is `side`, by the nearest pixel; then each channel with x's mean and deviation, within x's range. */
function reduceLikeWhole({ data, shape: [n, h, w, c] }: Values, side: number): Values {
  const scale = side / Math.max(h, w);
  const [rows, columns] = [Math.floor(h * scale), Math.floor(w * scale)];
  const nearest = (i: number, length: number) => Math.min(Math.floor((i + 0.5) / scale), length - 1);
  const shape = [n, rows, columns, c];
  const reduced = new Float32Array(n * rows * columns * c);
  let to = 0;
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of data) [least, most] = [Math.min(least, value), Math.max(most, value)];
  for (let image = 0; image < n; image++)
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++, to += c) {
        const from = ((image * h + nearest(y, h)) * w + nearest(x, w)) * c;
        reduced.set(data.subarray(from, from + c), to);
      }
  const [was, is] = [channelSpread(data, c), channelSpread(reduced, c)];
  return {
    shape,
    data: reduced.map((value, i) => {
      const k = i % c;
      return Math.min(most, Math.max(least, ((value - is.mean[k]) / is.deviation[k]) * was.deviation[k] + was.mean[k]));
    }),
  };
}

/** Mean and standard deviation (divided by the count less one) of every channel over all images. */
function channelSpread(data: Float32Array, c: number): { mean: Float64Array; deviation: Float64Array } {
  const count = data.length / c;
  const [mean, deviation] = [new Float64Array(c), new Float64Array(c)];
  for (let i = 0; i < data.length; i++) mean[i % c] += data[i] / count;
  for (let i = 0; i < data.length; i++) deviation[i % c] += (data[i] - mean[i % c]) ** 2 / (count - 1);
  return { mean, deviation: deviation.map(Math.sqrt) };
}

/** The corners of published tiles as recorded runs list them: x0, x1, y0, y1 of each. */
export function tileCorners(tiles: readonly PublishedTile[], part: 'read' | 'written'): number[] {
  return tiles.flatMap(({ [part]: { rows, columns } }) => [columns.start, columns.end, rows.start, rows.end]);
}
