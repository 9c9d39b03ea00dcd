/**
 * depthToSpace: y[n, r h + dy, r w + dx, c] = x[n, h, w, (dy r + dx) C + c]; r x r pixels of every pixel, as a transposed convolution of r x r pixels and
 * stride r makes them. x (N, H, W, r r C) f32 | f16; y (N, r H, r W, C) f32. Values are moved, never changed.
 */
import { ShapeError } from '../core/errors.ts';
import { apply, type Op, width } from '../core/op.ts';
import { type DType, elementType, shader } from '../core/shader.ts';
import { sizeOf } from '../core/shape.ts';
import { describe, type Tensor } from '../core/tensor.ts';
import { permute } from './copy.ts';
import { reshape } from './reshape.ts';

/** x (N, H, W, r r C), channel (dy r + dx) C + c -> (N, r H, r W, C). Throws ShapeError. */
export function depthToSpace(x: Tensor, r: number): Tensor {
  return apply(depthToSpaceOp, { x }, { r });
}

export const depthToSpaceOp: Op<{ r: number }, { x: Tensor }> = {
  name: 'depthToSpace',

  infer({ x }, { r }) {
    const [n, h, w, channels] = x.shape;
    if (x.shape.length !== 4 || channels % (r * r))
      throw new ShapeError(`depthToSpace: x must be (N, H, W, ${r * r} x some channels), not ${describe(x)}.`);
    return { shape: [n, r * h, r * w, channels / r ** 2], dtype: 'f32' };
  },

  lower({ x }, output, { r }, to) {
    const loads = width(output.shape);
    const [, , wide, channels] = output.shape;
    const count = sizeOf(output.shape) / loads;
    to.dispatch({
      shader: depthToSpaceShader(loads, x.dtype),
      operands: { x, y: output },
      params: { count, channels: channels / loads, wide, r },
      threads: count,
    });
  },

  gradient({ source }, upstream) {
    const [n, h, w] = source.inputs.x.shape;
    const { r } = source.attrs;
    const c = upstream.shape[3];
    const blocks = permute(reshape(upstream, [n * h, r, w, r * c]), [0, 2, 1, 3]);
    return { x: reshape(blocks, source.inputs.x.shape) };
  },
};

function depthToSpaceShader(loads: 1 | 4, x: DType) {
  return shader({
    name: `depthToSpace ${x} x${loads}`,
    bindings: {
      x: { dtype: x, width: loads },
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: { count: 'u32', channels: 'u32', wide: 'u32', r: 'u32' },
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let pixel = id / p.channels;
  let column = pixel % p.wide;
  let row = pixel / p.wide;
  let block = (row / p.r * (p.wide / p.r) + column / p.r) * p.r * p.r + row % p.r * p.r + column % p.r;
  y_store(id, ${elementType({ dtype: 'f32', width: loads })}(x_load(block * p.channels + id % p.channels)));
}`,
  });
}
