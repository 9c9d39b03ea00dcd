/** A cleaner as a stage: at which sizes it works, whether in tiles, and what it will run. Two methods have it. */
import type { Device } from '../gpu/device.ts';
import type { CleanerConfig } from '../models/diffbir.ts';
import { tileWindows } from '../sampler/tiles.ts';
import { type CleanerNetwork, type CleanerRun, chooseCleaner } from './cleaner.ts';
import { type CleaningOptions, resultSize, shortSideSize, type Tiles } from './diffbir.ts';
import type { Framed, Size, StagePlan } from './stage.ts';

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

/**
 * How a cleaner reads a picture of a size: with `tile` 0 whole or in exact tiles, else in the published, overlapping tiles of that side; in a smaller
 * picture these are not used. Throws ShapeError where nothing fits.
 */
export function cleaningPlan(
  device: Device,
  cleaner: CleanerNetwork,
  read: Size,
  { cleanerTile: tile, cleanerStride }: { cleanerTile: number; cleanerStride: number },
  minSide: number,
  budget: number,
): { tiles: Tiles | null; stage: StagePlan } {
  const short = Math.min(read.width, read.height);
  const memory = { budget, taken: 0 };
  if (tile > 0 && short >= tile) {
    const stride = cleanerStride > 0 ? Math.min(cleanerStride, tile) : Math.ceil(tile / 2);
    const runs = tileWindows(read.height, read.width, tile, stride).length;
    const { programs } = stageOf(chooseCleaner(device, cleaner, { width: tile, height: tile }, memory));
    const stage = { parts: runs, hostBytes: 0, programs: programs.map((program) => ({ ...program, runs: runs * program.runs })) };
    return { tiles: { size: tile, stride }, stage: { tiling: 'windows', ...stage } };
  }
  const size = cleaner.config.kind === 'swinir' && short < minSide ? shortSideSize(read, minSide) : read;
  return { tiles: null, stage: stageOf(chooseCleaner(device, cleaner, size, memory)) };
}

function stageOf(run: CleanerRun): StagePlan {
  if (run.how === 'whole') return { tiling: 'whole', parts: 1, hostBytes: 0, programs: [{ plan: run.plan, runs: 1 }] };
  const { programs, hostBytes } = run.tiles;
  return { tiling: 'exact', parts: programs.reduce((sum, { runs }) => sum + runs, 0), hostBytes, programs };
}
