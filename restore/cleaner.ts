/**
 * A cleaner on a picture of any size: whole where it fits, else in exact tiles, with the numbers of the whole (to f32 rounding) and GPU memory for
 * a tile. Its convolutions see hundreds of pixels away, more than tiles could read beside themselves, so what all tiles have is kept after each of
 * its blocks (models/tiled-graph.ts).
 */
import { ShapeError } from '../core/errors.ts';
import type { Plan } from '../core/plan.ts';
import { watch } from '../core/scope.ts';
import { input, type Shape, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, evaluate } from '../gpu/program.ts';
import type { FloatImage } from '../image/image.ts';
import { type Border, cropTo, padToMultiple } from '../image/pad.ts';
import { plan } from '../kernels/fusion.ts';
import type { Cleaner, CleanerConfig } from '../models/diffbir.ts';
import { FeatureMap } from '../models/feature-map.ts';
import { unshuffled } from '../models/pixel-shuffle.ts';
import { unshuffleOf } from '../models/rrdb-net.ts';
import { planTiles, type TilePlan } from '../models/tile-plan.ts';
import { runTiled, type TiledOptions } from '../models/tiled-graph.ts';
import { type Tap, take, tapped } from './tap.ts';
import { type Memory, memoryOf, VAE_TILING } from './tiled-vae.ts';

export interface CleanerNetwork {
  net: Cleaner;
  config: CleanerConfig;
}

/** The multiple to which a cleaner's sides are padded, and with what. */
export function cleanerPadding(config: CleanerConfig): { multiple: number; border: Border } {
  if (config.kind === 'rrdb') return { multiple: unshuffleOf(config), border: 'reflect' };
  if (config.kind === 'scunet') return { multiple: 64, border: 'replicate' };
  return { multiple: 64, border: 'zero' };
}

/** How a cleaner runs on a picture: whole by a plan, or in tiles of a graph that reads blocks of pixels. */
export type CleanerRun =
  | { how: 'whole'; output: Tensor; plan: Plan }
  | { how: 'exact'; output: Tensor; stops: Tensor[]; shape: Shape; tiles: TilePlan };

/** How it runs on height x width pixels, which it pads. `tileBytes`: those of a tile's largest feature map; where given, it runs in tiles anyway. */
export function chooseCleaner(
  device: Device,
  { net, config }: CleanerNetwork,
  { width, height }: { width: number; height: number },
  memory: Memory,
  tileBytes?: number,
): CleanerRun {
  const { multiple } = cleanerPadding(config);
  const [h, w] = [height, width].map((side) => Math.ceil(side / multiple) * multiple);
  if (tileBytes === undefined) {
    const output = net.forward(input('x', [1, h, w, 3]));
    const planned = whole(device, output);
    const most = Math.min(memory.budget - memory.taken, VAE_TILING.mostWhole + (planned?.bytes.weights ?? 0));
    if (planned && planned.bytes.total + planned.bytes.weights <= most) return { how: 'whole', output, plan: planned };
  }
  const side = net.blockSide;
  const shape = [1, h / side, w / side, 3 * side * side];
  const { result: output, results } = watch(() => net.ofBlocks(input('x', shape)));
  const stops = net.stops().map((module) => results.get(module) as Tensor);
  const options = memoryOf({ ...VAE_TILING, tileBytes: tileBytes ?? VAE_TILING.tileBytes }, memory);
  return { how: 'exact', output, stops, shape, tiles: planTiles([{ output, stops, count: 1 }], options, device.facts, device.gpu.limits) };
}

/** Null where a tensor exceeds the largest binding. */
function whole(device: Device, output: Tensor): Plan | null {
  try {
    return plan({ output }, device.facts, device.gpu.limits);
  } catch (error) {
    if (error instanceof ShapeError) return null;
    throw error;
  }
}

export interface CleanerEvents extends Pick<TiledOptions, 'signal' | 'onTile'> {
  /** Takes intermediate results out; the cleaner runs whole for it. */
  tap?: Tap | null;
}

/**
 * A cleaner on a picture in [0, 1] of any size. -> its size times the cleaner's own factor, not clamped. `tileBytes`: as in chooseCleaner. Throws
 * UserError when a tap wants nothing, ShapeError when it needs the whole and that does not fit.
 */
export async function cleanWith(
  device: Device,
  cleaner: CleanerNetwork,
  image: FloatImage,
  { tap = null, ...events }: CleanerEvents = {},
  tileBytes?: number,
): Promise<FloatImage> {
  const { multiple, border } = cleanerPadding(cleaner.config);
  const padded = padToMultiple(image, multiple, border);
  const factor = cleaner.config.kind === 'rrdb' ? cleaner.config.scale : 1;
  const cropped = (data: Float32Array) =>
    cropTo(
      { width: factor * padded.width, height: factor * padded.height, channels: 3, data },
      factor * image.width,
      factor * image.height,
    );
  if (tap) return cropped(await tappedWhole(device, cleaner.net, padded, tap, events.signal));
  const { budget, taken } = device.residency;
  const chosen = chooseCleaner(device, cleaner, padded, { budget, taken }, tileBytes);
  const { output } = chosen;
  if (chosen.how === 'whole') return cropped(await evaluate(device, output, { x: padded.data }, events.signal));
  const blocks = unshuffled(padded.data, [1, padded.height, padded.width, 3], cleaner.net.blockSide);
  const options = { ...memoryOf({ ...VAE_TILING, tileBytes: tileBytes ?? VAE_TILING.tileBytes }, { budget, taken }), ...events };
  const { results } = await runTiled(device, [{ output, stops: chosen.stops, input: new FeatureMap(chosen.shape, blocks) }], options);
  return cropped(results[0].data());
}

async function tappedWhole(
  device: Device,
  net: Cleaner,
  { width, height, data }: FloatImage,
  tap: Tap,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const { result: y, results } = watch(() => net.forward(input('x', [1, height, width, 3])));
  const program = await compile<'y'>(device, { ...tapped(tap, net, { y }, results), y }, signal);
  try {
    const { y: values, ...wanted } = await program.run({ x: data });
    await take(tap, wanted, program.plan.outputs);
    return values;
  } finally {
    program.dispose();
  }
}
