import type { Shape } from '../core/shape.ts';

/** A dense array on the host. */
export interface Values {
  data: Float32Array;
  shape: Shape;
}
