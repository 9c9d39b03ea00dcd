/**
 * collectGradient: adds what one pass gives of a weight's gradient to the sum over passes, in place, with that of the regulariser, and keeps squares of it:
 *   sum = before sum + share (g + decay w); squares[place + i] = (g^2, sum^2, w^2, 0), each the sum over the elements of thread i
 * g, w and sum of one size, squares (places, 4), all f32; without w there is no regulariser. Where `before` is 0, what was in the sum does not matter, were
 * it no number.
 */
import { apply, type Op } from '../core/op.ts';
import { shader, when } from '../core/shader.ts';
import { type Scalar, sizeOf, type Tensor } from '../core/tensor.ts';

export interface CollectAttrs {
  /** The first of the weight's places in squares; it has `squaresOf` its size. */
  place: number;
  before: Scalar;
  share: Scalar;
  decay: number;
}

type CollectInputs = { squares: Tensor; g: Tensor; w: Tensor | null; sum: Tensor };

const THREADS = 64;
/** Loads of four of one thread. */
const LOADS = 16;

const groupsOf = (size: number) => Math.ceil(size / (4 * LOADS * THREADS));

/** Places in `squares` that a weight of so many elements takes. */
export const squaresOf = (size: number): number => THREADS * groupsOf(size);

/** -> squares, changed. */
export function collectGradient(inputs: CollectInputs, attrs: CollectAttrs): Tensor {
  return apply(collectGradientOp, inputs, attrs);
}

export const collectGradientOp: Op<CollectAttrs, CollectInputs> = {
  name: 'collectGradient',
  inPlace: true,

  infer({ squares }) {
    return { shape: squares.shape, dtype: 'f32' };
  },

  lower({ g, w, sum }, squares, { place, before, share, decay }, to) {
    const size = sizeOf(sum.shape);
    const groups = groupsOf(size);
    to.dispatch({
      shader: collectShader(w !== null),
      operands: { g, w, sum, squares },
      params: { groups, passes: LOADS, loads: Math.ceil(size / 4), size, place, before, share, decay: w && decay },
      threads: groups * THREADS,
    });
  },
};

function collectShader(regularised: boolean) {
  const read = { dtype: 'f32', width: 4 } as const;
  return shader({
    name: `collectGradient${regularised ? ' regularised' : ''}`,
    bindings: { g: read, ...when(regularised, { w: read }), sum: { ...read, write: true, read: true }, squares: { ...read, write: true } },
    params: {
      groups: 'u32',
      passes: 'u32',
      loads: 'u32',
      size: 'u32',
      place: 'u32',
      before: 'f32',
      share: 'f32',
      ...when(regularised, { decay: 'f32' } as const),
    },
    workgroup: THREADS,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (group >= p.groups) { return; }
  var squares = vec4<f32>(0.0);
  for (var n = 0u; n < p.passes; n++) {
    let at = (group * p.passes + n) * ${THREADS}u + local;
    if (at < p.loads) {
      // Behind its last element a gradient's buffer holds anything.
      let g = select(vec4<f32>(0.0), g_load(at), 4u * at + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.size));
      ${regularised ? 'let w = w_load(at);' : 'let w = vec4<f32>(0.0);'}
      var sum = p.share * ${regularised ? '(g + p.decay * w)' : 'g'};
      if (p.before > 0.0) { sum += p.before * sum_load(at); }
      sum_store(at, sum);
      squares += vec4<f32>(dot(g, g), dot(sum, sum), dot(w, w), 0.0);
    }
  }
  squares_store(p.place + id, squares);
}`,
  });
}
