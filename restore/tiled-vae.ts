/**
 * The autoencoder on images of any size: whole where it fits, else in tiles with exact group norms, so that the result is that of the whole
 * (to f32 rounding) and GPU memory is that of a tile. For parity with the published program there is its approximate tiling too: tiles with a
 * border of their own are run side by side, and their group norms share the pixel-weighted mean of the tiles' means and variances.
 */

import { ShapeError } from '../core/errors.ts';
import { topological } from '../core/graph.ts';
import { isOp } from '../core/op.ts';
import { input, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { evaluate } from '../gpu/program.ts';
import { conv2dOp } from '../kernels/conv2d.ts';
import { plan } from '../kernels/fusion.ts';
import { groupNormOp } from '../kernels/group-norm.ts';
import { FeatureMap, type Window } from '../models/feature-map.ts';
import { forecastTiled, type Moments, runTiled, type TiledForecast, type TiledOptions } from '../models/tiled-graph.ts';
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
const BORDER = { encoder: 32, decoder: 11 };

/** A graph of feature maps for an input of any size (N, H, W, C). */
export type BuildGraph = (x: Tensor) => Tensor;

export type TilingEvents = Pick<TiledOptions, 'signal' | 'onTile'>;

/** Runs an encoder or decoder on x (N, H, W, C). Throws ShapeError when it must run whole and a tensor exceeds the largest binding. */
export async function runAutoencoder(
  device: Device,
  half: 'encoder' | 'decoder',
  build: BuildGraph,
  x: Values,
  tiling: VaeTiling,
  events: TilingEvents = {},
): Promise<Values> {
  const output = build(input('x', x.shape));
  const { budget } = device.residency;
  const how = chosenTiling(device, half, output, x.shape, tiling, budget);
  if (how === 'published') return runPublishedTiles(device, half, build, x, sideOf(half, tiling), 'normal', events);
  if (how === 'whole') return { data: await evaluate(device, output, { x: x.data }, events.signal), shape: output.shape };
  const graph = { output, input: new FeatureMap(x.shape, x.data) };
  const { results } = await runTiled(device, [graph], { tileBytes: tileBytesOf(tiling, budget), ...events });
  return { data: results[0].data(), shape: output.shape };
}

/** What `runAutoencoder` will do on x of `shape` when the device has that budget; nothing is run. Throws ShapeError as it does. */
export function forecastAutoencoder(
  device: Device,
  half: 'encoder' | 'decoder',
  build: BuildGraph,
  shape: Shape,
  tiling: VaeTiling,
  budget: number,
): { how: ChosenTiling } & Pick<TiledForecast, 'hostBytes' | 'programs'> {
  const { facts } = device;
  const { limits } = device.gpu;
  const output = build(input('x', shape));
  const how = chosenTiling(device, half, output, shape, tiling, budget);
  if (how === 'whole') return { how, hostBytes: 0, programs: [{ plan: plan({ output }, facts, limits), runs: 1 }] };
  if (how === 'exact') return { how, ...forecastTiled(output, tileBytesOf(tiling, budget), facts, limits) };
  const [n, h, w, c] = shape;
  const counts = new Map<string, { shape: Shape; tiles: number }>();
  for (const { read } of publishedTiles(h, w, sideOf(half, tiling), BORDER[half], output.shape[1] / h)) {
    const tile = [n, read.y1 - read.y0, read.x1 - read.x0, c];
    const seen = counts.get(String(tile));
    counts.set(String(tile), { shape: tile, tiles: (seen?.tiles ?? 0) + 1 });
  }
  let hostBytes = 4 * (sizeOf(shape) + sizeOf(output.shape));
  const programs: TiledForecast['programs'] = [];
  for (const { shape: tile, tiles } of counts.values()) {
    const forecast = forecastTiled(build(input('x', tile)), VAE_TILING.tileBytes, facts, limits);
    hostBytes += tiles * forecast.hostBytes;
    programs.push(...forecast.programs.map((program) => ({ ...program, runs: tiles * program.runs })));
  }
  return { how, hostBytes, programs };
}

export type ChosenTiling = 'whole' | 'exact' | 'published';

function chosenTiling(
  device: Device,
  half: 'encoder' | 'decoder',
  output: Tensor,
  [, h, w]: Shape,
  tiling: VaeTiling,
  budget: number,
): ChosenTiling {
  if (tiling.how === 'published' && Math.max(h, w) > sideOf(half, tiling) + 2 * BORDER[half]) return 'published';
  if (tiling.how === 'exact' || (tiling.how === 'auto' && !fitsWhole(device, output, Math.min(tiling.mostWhole, budget / 2))))
    return 'exact';
  return 'whole';
}

/** Side of the published tiles without their borders. */
function sideOf(half: 'encoder' | 'decoder', { encoderTile, decoderTile }: VaeTiling): number {
  return half === 'encoder' ? encoderTile : decoderTile;
}

/** Small enough that some ten maps of a tile, and weights, fit the device's budget. */
function tileBytesOf({ tileBytes }: VaeTiling, budget: number): number {
  return Math.min(tileBytes, budget / 24);
}

function fitsWhole(device: Device, output: Tensor, most: number): boolean {
  try {
    return plan({ output }, device.facts, device.gpu.limits).bytes.intermediates <= most;
  } catch (error) {
    if (error instanceof ShapeError) return false;
    throw error;
  }
}

/**
 * normal: moments from the tiles. fast: from the whole image at the tile's size, with the image's colours. fast_colorfix: these up to the first
 * reduction, then from the tiles.
 */
export type PublishedMode = 'normal' | 'fast' | 'fast_colorfix';

/** The published tiling, whatever the size. `tile` is the side without borders, in x's pixels. */
export async function runPublishedTiles(
  device: Device,
  half: 'encoder' | 'decoder',
  build: BuildGraph,
  x: Values,
  tile: number,
  mode: PublishedMode,
  events: TilingEvents = {},
): Promise<Values> {
  const [, h, w] = x.shape;
  const whole = build(input('x', x.shape));
  const factor = whole.shape[1] / h;
  const tiles = publishedTiles(h, w, tile, BORDER[half], factor);
  const source = new FeatureMap(x.shape, x.data);
  const tileBytes = VAE_TILING.tileBytes;
  const estimate = mode === 'normal' ? undefined : await estimateMoments(device, build, x, tile, mode, tileBytes);
  const graphs = tiles.map(({ read }) => {
    const shape = [x.shape[0], read.y1 - read.y0, read.x1 - read.x0, x.shape[3]];
    return { output: build(input('x', shape)), input: new FeatureMap(shape, source.read(read)) };
  });
  const { results } = await runTiled(device, graphs, { tileBytes, moments: estimate, combine: meanByPixels, ...events });
  const joined = new FeatureMap(whole.shape);
  tiles.forEach(({ read, written }, i) => {
    const { y0, y1, x0, x1 } = written;
    const [top, left] = [read.y0 * factor, read.x0 * factor];
    joined.write(written, results[i].read({ y0: y0 - top, y1: y1 - top, x0: x0 - left, x1: x1 - left }));
  });
  return { data: joined.data(), shape: whole.shape };
}

/** Moments (groups, 2) of tiles -> their mean, weighted by pixels: what lies between the tiles' means is left out of the variance. */
function meanByPixels(moments: Float32Array[], pixels: number[]): Float32Array {
  const total = pixels.reduce((sum, count) => sum + count, 0);
  return moments[0].map((_, i) => moments.reduce((sum, each, tile) => sum + (each[i] * pixels[tile]) / total, 0));
}

/** Where a tile reads its input and what of the result is taken from it. */
export interface PublishedTile {
  read: Window;
  written: Window;
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
      return { read: [Math.max(start - border, 0), Math.min(end + border, length)], written: [from * factor, to * factor] };
    });
  };
  return spans(height).flatMap(({ read: [y0, y1], written: [t, b] }) =>
    spans(width).map(({ read: [x0, x1], written: [l, r] }) => ({ read: { y0, y1, x0, x1 }, written: { y0: t, y1: b, x0: l, x1: r } })),
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
  tileBytes: number,
): Promise<Moments> {
  const reduced = reduceLikeWhole(x, tile);
  const output = build(input('x', reduced.shape));
  const graph = { output, input: new FeatureMap(reduced.shape, reduced.data) };
  const { moments } = await runTiled(device, [graph], { tileBytes });
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
