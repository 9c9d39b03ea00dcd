/**
 * mergeMoments: means and variances (divided by the count) of parts of an image become those of the whole. (Chan, Golub & LeVeque 1983)
 * parts (T, N, groups, 2) f32 of T parts; pixels (T) f32, how many each has; y (N, groups, 2) f32.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op } from '../core/op.ts';
import { shader } from '../core/shader.ts';
import { sizeOf } from '../core/shape.ts';
import { describe, type Tensor } from '../core/tensor.ts';

interface Attrs {
  /** Whether the variance is that of the whole, or only the mean of the parts' variances. */
  between: boolean;
}

/**
 * parts (T, N, groups, 2), pixels (T). -> (N, groups, 2). Without `between`, what lies between the parts' means is left out of the variance.
 * Throws ShapeError.
 */
export function mergeMoments(parts: Tensor, pixels: Tensor, { between = true } = {}): Tensor {
  return apply(mergeMomentsOp, { parts, pixels }, { between });
}

export const mergeMomentsOp: Op<Attrs, { parts: Tensor; pixels: Tensor }> = {
  name: 'mergeMoments',

  infer({ parts, pixels }) {
    const [t, , , two] = parts.shape;
    if (parts.shape.length !== 4 || two !== 2 || pixels.size !== t)
      throw new ShapeError(`mergeMoments: parts must be (T, N, groups, 2) and pixels (T), not ${describe(parts)} and ${describe(pixels)}.`);
    return { shape: parts.shape.slice(1), dtype: 'f32' };
  },

  lower({ parts, pixels }, output, { between }, to) {
    const count = sizeOf(output.shape) / 2;
    to.dispatch({
      shader: mergeShader,
      operands: { parts, pixels, moments: output },
      params: { count, parts: parts.shape[0], between: between ? 1 : 0 },
      threads: count,
    });
  },
};

const mergeShader = shader({
  name: 'merge moments',
  bindings: {
    parts: { dtype: 'f32', width: 1 },
    pixels: { dtype: 'f32', width: 1 },
    moments: { dtype: 'f32', width: 1, write: true },
  },
  params: { count: 'u32', parts: 'u32', between: 'f32' },
  workgroup: 64,
  code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  var elements = 0.0;
  var mean = 0.0;
  var square = 0.0;
  for (var i = 0u; i < p.parts; i++) {
    let n = pixels_load(i);
    let at = 2u * (i * p.count + id);
    let apart = parts_load(at) - mean;
    square += n * (parts_load(at + 1u) + p.between * apart * apart * (elements / (elements + n)));
    elements += n;
    mean += apart * (n / elements);
  }
  moments_store(2u * id, mean);
  moments_store(2u * id + 1u, square / elements);
}`,
});
