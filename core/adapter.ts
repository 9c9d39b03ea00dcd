/** What is known of an adapter: kernels choose by it, and a plan needs no GPU but these facts. */

/**
 * How matmul, convolution and attention divide their work. subgroup: one subgroup a workgroup, operands handed round by broadcasts, no
 * workgroup memory, which is what CPU drivers like; tiled: many threads share tiles in workgroup memory, which is what GPUs like; matrix: as
 * tiled, but matmuls and convolutions on the GPU's matrix units (MATRIX_FEATURE).
 */
export type Schedule = 'subgroup' | 'tiled' | 'matrix';

export const MATRIX_FEATURE = 'chromium-experimental-subgroup-matrix';

/**
 * The tiles of the schedules for GPUs, by work: matmuls of rows as they lie and of windows, where the larger tile would start few workgroups or many, and
 * attention where that is few. What is quicker depends on the GPU; results do not.
 */
export type TileSize = 'large' | 'small';
export type TiledWork = 'fewRows' | 'manyRows' | 'fewWindows' | 'manyWindows' | 'fewQueries';
export type TileSizes = Readonly<Record<TiledWork, TileSize>>;

/** Where nothing was measured. */
export const USUAL_TILES: TileSizes = {
  fewRows: 'small',
  manyRows: 'large',
  fewWindows: 'small',
  manyWindows: 'large',
  fewQueries: 'small',
};

/** What is known of the machine around a GPU. */
export interface Machine {
  system: 'windows' | 'mac' | 'linux' | 'android' | 'ios' | null;
  /** Bytes of memory; browsers tell 8 GiB of more. Null where nothing tells. */
  memory: number | null;
}

/**
 * A product that an adapter's matrix units compute: m x k numbers of type `input` by k x n, which `lanes` threads hold together, with sums in f32.
 */
export interface MatrixUnit {
  input: 'f16' | 'f32';
  m: number;
  n: number;
  k: number;
  lanes: number;
}

/** What the adapter offers; everything that chooses a schedule or a message reads it from here. */
export interface AdapterFacts {
  vendor: string;
  architecture: string;
  device: string;
  description: string;
  /** True for CPU drivers (lavapipe, SwiftShader, WARP). */
  software: boolean;
  features: ReadonlySet<string>;
  /** Smallest and largest subgroup, in lanes; 0 where unknown. */
  subgroupSizes: [number, number];
  schedule: Schedule;
  /** Default: USUAL_TILES. */
  tiles?: TileSizes;
  /** In the schedule 'matrix', which of its products is used. */
  matrixUnit?: MatrixUnit;
  /** What a probe of its matrix units found, in words; absent where there was none. */
  matrixFindings?: string;
}
