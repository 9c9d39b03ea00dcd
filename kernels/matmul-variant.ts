/** What the schedules of the implicit matmul share: which shader, its sizes and its bindings. See implicit-matmul.ts. */
import { type DType, when } from '../core/shader.ts';
import { EPILOGUE_PARAMS, type Epilogue, epilogueBindings, epilogueName } from './epilogue.ts';

export type Float = 'f32' | 'f16';

/** Which shader: element types, elements that a load of x and w moves (along channels), and what it ends in. */
export interface MatmulVariant {
  x: Float;
  w: DType;
  inWidth: 1 | 4;
  epilogue: Epilogue;
  /** Whether there is a second pair of factors. */
  lowRank: boolean;
  /** False where rows of x are read as they are: a 1 x 1 window, stride 1, no padding. */
  windowed: boolean;
  /** Whether w is read as a backward pass reads it: it lies as (channels, kh, kw, columns), and the window is turned by half a turn. */
  turned: boolean;
}

/** Rows and columns of the result that one workgroup, or one thread, computes. */
export interface Tile {
  rows: number;
  columns: number;
}

/** Uniform parameters of where a result's window lies. */
export const WINDOW_PARAMS = {
  h: 'u32',
  width: 'u32',
  oh: 'u32',
  ow: 'u32',
  kh: 'u32',
  kw: 'u32',
  stride: 'u32',
  top: 'u32',
  left: 'u32',
  zoom: 'u32',
} as const;

/** Uniform parameters of every schedule. */
export const MATMUL_PARAMS = {
  rows: 'u32',
  columns: 'u32',
  channels: 'u32', // of x, in loads
  k: 'u32', // window elements of one output channel, in loads
  row_tiles: 'u32',
  column_tiles: 'u32',
  batch: 'u32',
  parts: 'u32', // of the sum, and loads of k in each but the last; one part in the schedule for processors
  part: 'u32',
  x_batch: 'u32', // elements of x and w in one batch, in loads
  w_batch: 'u32',
  ...WINDOW_PARAMS,
  rank: 'u32', // of t and up, in loads of four
  ...EPILOGUE_PARAMS,
} as const;

/** WGSL of `pixel(image, y, x)`: the number of x's pixel that is seen at (y, x). */
export const PIXEL = `
fn pixel(image: u32, y: u32, x: u32) -> u32 {
  return (image * (p.h >> p.zoom) + (y >> p.zoom)) * (p.width >> p.zoom) + (x >> p.zoom);
}`;

export function matmulBindings({ x, w, inWidth, epilogue, lowRank }: MatmulVariant) {
  return {
    x: { dtype: x, width: inWidth },
    w: { dtype: w, width: inWidth },
    ...epilogueBindings(epilogue),
    ...when(lowRank, { t: { dtype: 'f32', width: 4 }, up: { dtype: 'f32', width: 4 } }),
  } as const;
}

/** For a shader's name: what it reads, what it ends in, and how it finds its rows. */
export function matmulName({ x, w, inWidth, lowRank, epilogue, windowed, turned }: MatmulVariant): string {
  return `matmul ${x}x${inWidth} ${w}${turned ? ' turned' : ''}${lowRank ? ' low rank' : ''} ${epilogueName(epilogue)}${windowed ? ' windowed' : ''}`;
}
