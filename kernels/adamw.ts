/**
 * adamw: one update of a weight w, in place. AdamW is Adam with weight decay apart from the gradient (Loshchilov & Hutter 2017, arXiv 1711.05101). With
 * g the gradient times `shorten`, and b1, b2 the betas:
 *   m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w = w - (decay w + rate m / (sqrt(v) / root + epsilon)); average = average + share (w - average)
 * where after t updates rate is the learning rate / (1 - b1^t), root sqrt(1 - b2^t), and decay the learning rate times the weight decay. What is taken off
 * is one sum, which w is rounded by once. The average of an update's weights is for sampling (Polyak & Juditsky 1992; Karras et al. 2023).
 * w, gradient, m, v and average are f32 weights of one size, of which all but the gradient are changed where they lie.
 */
import { apply, type Op } from '../core/op.ts';
import { shader, when } from '../core/shader.ts';
import { type Scalar, sizeOf, type Tensor } from '../core/tensor.ts';

export interface AdamWAttrs {
  betas: readonly number[];
  epsilon: number;
  shorten: Scalar;
  rate: Scalar;
  root: Scalar;
  decay: Scalar;
  /** Of the weight in the average. */
  share: Scalar;
}

export type AdamWInputs = { w: Tensor; gradient: Tensor; first: Tensor; second: Tensor; average: Tensor | null };

/** -> w, changed. */
export function adamw(inputs: AdamWInputs, attrs: AdamWAttrs): Tensor {
  return apply(adamwOp, inputs, attrs);
}

export const adamwOp: Op<AdamWAttrs, AdamWInputs> = {
  name: 'adamw',
  inPlace: true,

  infer({ w }) {
    return { shape: w.shape, dtype: 'f32' };
  },

  lower({ gradient, first, second, average }, w, { betas: [beta1, beta2], epsilon, shorten, rate, root, decay, share }, to) {
    // Buffers are filled up to whole loads of four, with zeros that stay zeros.
    const loads = Math.ceil(sizeOf(w.shape) / 4);
    to.dispatch({
      shader: adamwShader(average !== null),
      operands: { gradient, first, second, average, w },
      params: {
        ...{ count: loads, beta1, beta2, rest1: 1 - beta1, rest2: 1 - beta2, epsilon },
        ...{ shorten, rate, root, decay, share: average && share },
      },
      threads: loads,
    });
  },
};

function adamwShader(averaged: boolean) {
  const changed = { dtype: 'f32', width: 4, write: true, read: true } as const;
  return shader({
    name: `adamw${averaged ? ' averaged' : ''}`,
    bindings: {
      gradient: { dtype: 'f32', width: 4 },
      first: changed,
      second: changed,
      ...when(averaged, { average: changed }),
      w: changed,
    },
    params: {
      count: 'u32',
      beta1: 'f32',
      beta2: 'f32',
      rest1: 'f32',
      rest2: 'f32',
      epsilon: 'f32',
      shorten: 'f32',
      rate: 'f32',
      root: 'f32',
      decay: 'f32',
      ...when(averaged, { share: 'f32' } as const),
    },
    workgroup: 64,
    code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let g = p.shorten * gradient_load(id);
  let m = p.beta1 * first_load(id) + p.rest1 * g;
  let v = p.beta2 * second_load(id) + p.rest2 * g * g;
  first_store(id, m);
  second_store(id, v);
  let before = w_load(id);
  let w = before - (p.decay * before + p.rate * m / (sqrt(v) / p.root + vec4<f32>(p.epsilon)));
  w_store(id, w);
  ${averaged ? 'let mean = average_load(id); average_store(id, mean + p.share * (w - mean));' : ''}
}`,
  });
}
