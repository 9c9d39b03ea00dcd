/**
 * Which of two tiles a workgroup computes, and in how many parts a sum along k is made, in the schedules for GPUs. The larger tile reads each operand
 * less often; the smaller one starts four times as many workgroups and needs half the registers, which some GPUs lack. Both give the same bits.
 */
import { type AdapterFacts, type TileSize, type TileSizes, USUAL_TILES } from '../core/adapter.ts';
import type { Tile } from './matmul-variant.ts';

/** Sums of one workgroup of a matmul. It has as many threads as rows, and twice as many rows as columns. */
export const TILES: Readonly<Record<TileSize, Tile>> = { large: { rows: 128, columns: 64 }, small: { rows: 64, columns: 32 } };

/** For those who look at all kernels: every work in large tiles. */
export const LARGE_TILES = Object.fromEntries(Object.keys(USUAL_TILES).map((work) => [work, 'large'])) as TileSizes;

/** Workgroups below which a large GPU's processors stand still: of cards in use the largest have so many. */
export const MANY = 132;

/** Workgroups that fill them: of small ones a processor computes some at a time. */
const FULL = 2 * MANY;

/** Elements of k that a part of a sum has at least, and parts at most. */
const [PART, MOST_PARTS] = [512, 8];
/** Operations below which the dispatch that adds the parts would cost more than they save. */
const WORTH = 2 ** 26;

export interface Extent {
  rows: number;
  /** Of sums: with geglu two for each of the result. */
  columns: number;
  batch: number;
}

export const tilesOf = ({ rows, columns, batch }: Extent, tile: Tile): number =>
  batch * Math.ceil(rows / tile.rows) * Math.ceil(columns / tile.columns);

/** In how many parts a sum along `k` elements is made where even small tiles are few. It follows from the sizes alone, for it changes how sums round. */
export function partsAlong(k: number, extent: Extent): number {
  const groups = tilesOf(extent, TILES.small);
  const { rows, columns, batch } = extent;
  if (groups >= MANY || 2 * rows * columns * batch * k < WORTH) return 1;
  return Math.max(1, Math.min(Math.ceil(FULL / groups), Math.floor(k / PART), MOST_PARTS));
}

/** The size for a matmul of rows as they lie, or of windows. Of few rows most of a large tile would be computed for nothing. */
export function tileSize({ tiles = USUAL_TILES }: AdapterFacts, extent: Extent, kind: 'Rows' | 'Windows'): TileSize {
  const few = extent.rows <= TILES.small.rows || tilesOf(extent, TILES.large) < MANY;
  return tiles[`${few ? 'few' : 'many'}${kind}`];
}
