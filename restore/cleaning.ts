/** A cleaner as a stage: at which sizes it works, whether in tiles, and what it will run. Two methods have it. */
import { ShapeError } from '../core/errors.ts';
import type { Plan } from '../core/plan.ts';
import { input } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { plan } from '../kernels/fusion.ts';
import type { Cleaner, CleanerConfig } from '../models/diffbir.ts';
import { tileWindows } from '../sampler/tiles.ts';
import { type CleaningOptions, cleanerPadding, resultSize, shortSideSize, type Tiles } from './diffbir.ts';
import type { Framed, Size, StagePlan } from './stage.ts';
import { VAE_TILING } from './tiled-vae.ts';

export const factorOf = (config: CleanerConfig): number => (config.kind === 'rrdb' ? config.scale : 1);

/** Sizes of what the network reads and of the cleaned picture, as `cleanPicture` makes them; and of the result. */
export function cleanedSizes(
  photo: Framed,
  config: CleanerConfig,
  { upscale, cleanerEnlarges, minSide }: Omit<CleaningOptions, 'cleanerTiles'>,
) {
  const result = resultSize(photo, upscale, photo.result);
  const isEnlarged = result.width !== photo.width || result.height !== photo.height;
  const read = cleanerEnlarges || !isEnlarged ? { width: photo.width, height: photo.height } : result;
  const factor = factorOf(config);
  const short = ({ width, height }: Size) => Math.min(width, height);
  const made = { width: factor * read.width, height: factor * read.height };
  const isSmall = short(made) < minSide || (cleanerEnlarges && short(result) < minSide);
  return { read, cleaned: isSmall ? shortSideSize(made, minSide) : cleanerEnlarges ? result : made, result };
}

/** Sides of tiles that are tried where a picture does not fit whole. */
const TILES = [512, 256, 128, 64];

/**
 * In which tiles a cleaner reads a picture of a size. `tile` 0 runs it whole where that fits, else in the largest tiles that do; in a smaller
 * picture, tiles are not used. Throws ShapeError where nothing fits.
 */
export function cleaningPlan(
  device: Device,
  { net, config }: { net: Cleaner; config: CleanerConfig },
  read: Size,
  { cleanerTile: tile, cleanerStride: stride }: { cleanerTile: number; cleanerStride: number },
  minSide: number,
  budget: number,
): { tiles: Tiles | null; plan: Plan; runs: number } {
  const { multiple } = cleanerPadding(config);
  const up = (side: number) => Math.ceil(side / multiple) * multiple;
  const planned = (width: number, height: number) =>
    plan({ y: net.forward(input('x', [1, up(height), up(width), 3])) }, device.facts, device.gpu.limits);
  const short = Math.min(read.width, read.height);
  const whole = () => {
    const size = config.kind === 'swinir' && short < minSide ? shortSideSize(read, minSide) : read;
    return { tiles: null, plan: planned(size.width, size.height), runs: 1 };
  };
  const inTiles = (side: number) => {
    const tiles = { size: side, stride: stride > 0 ? Math.min(stride, side) : Math.ceil(side / 2) };
    return { tiles, plan: planned(side, side), runs: tileWindows(read.height, read.width, side, tiles.stride).length };
  };
  const fits = ({ bytes }: Plan) => bytes.total + bytes.weights <= Math.min(budget, VAE_TILING.mostWhole + bytes.weights);
  if (tile > 0) return short >= tile ? inTiles(tile) : whole();
  const tries = [whole, ...TILES.filter((side) => side <= short).map((side) => () => inTiles(side))];
  for (const [i, attempt] of tries.entries()) {
    const isLast = i === tries.length - 1;
    try {
      const found = attempt();
      if (isLast || fits(found.plan)) return found;
    } catch (error) {
      if (isLast || !(error instanceof ShapeError)) throw error;
    }
  }
  return whole();
}

export function cleaningStage({ tiles, plan, runs }: ReturnType<typeof cleaningPlan>): StagePlan {
  return { tiling: tiles ? 'windows' : 'whole', parts: runs, hostBytes: 0, programs: [{ plan, runs }] };
}
