/** The graphs of catalogue.ts for gradients: every rule that has a kernel of its own, in its types and load widths. */
import type { DType } from '../core/shader.ts';
import type { Shape, Tensor } from '../core/tensor.ts';
import { adamw } from './adamw.ts';
import { attention } from './attention.ts';
import { add } from './binary.ts';
import { collectGradient } from './collect-gradient.ts';
import { conv2d } from './conv2d.ts';
import { exchange } from './exchange.ts';
import { beforeGradient } from './fusion.ts';
import { gatherRows } from './gather-rows.ts';
import { geglu } from './geglu.ts';
import { gradient } from './gradient.ts';
import { groupNorm } from './group-norm.ts';
import { layerNorm } from './layer-norm.ts';
import { linear } from './linear.ts';
import { softmax } from './softmax.ts';
import { silu } from './unary.ts';

/** `of` makes an input of a shape and type. */
export function* gradientGraphs(of: (shape: Shape, dtype?: DType) => Tensor, channels: readonly number[]): Generator<Tensor> {
  const by = (y: Tensor, wrt: Tensor[]) => gradient(y, wrt, { upstream: of(y.shape) });
  for (const dtype of ['f32', 'f16'] as const) {
    for (const c of channels) {
      const x = of([2, 3, 3, c], dtype);
      const [gamma, beta] = [of([c]), of([c])];
      yield* by(silu(x), [x]);
      yield* by(softmax(x), [x]);
      yield* by(layerNorm(x, gamma, beta), [x, gamma, beta]);
      yield* by(add(x, layerNorm(x, gamma, beta)), [x]);
      for (const groups of [1, 2, 4, 8, 5]) {
        if (c % groups !== 0) continue;
        const norm = groupNorm(x, gamma, beta, groups);
        yield* by(norm, [x, gamma, beta]);
        const activated = beforeGradient({ y: silu(norm) }).y;
        yield* by(activated, [x, gamma, beta]);
        for (const branch of [norm, activated]) yield* by(add(x, branch), [x]);
      }
      const pairs = of([3, 2 * c], dtype);
      yield* by(geglu(pairs), [pairs]);
      const table = of([3, c], dtype);
      yield* by(gatherRows(table, of([2], 'u32')), [table]);
      const row = of([c], dtype);
      yield* by(add(of([2, 3, 3, c]), row), [row]);
      for (const o of channels) {
        for (const weight of ['f32', 'f16'] as const) {
          const [w, matrix] = [of([o, 3, 3, c], weight), of([o, c], weight)];
          yield* by(conv2d(x, w, null, { padding: 1 }), [x, w]);
          yield* by(linear(x, matrix), [x, matrix]);
        }
      }
    }
    const [image, window] = [of([1, 16, 16, 32], dtype), of([32, 3, 3, 32])];
    yield* by(conv2d(image, window, null, { padding: 1 }), [window]);
    // A shader for every width of heads that are held in registers; wider ones are products of matrices.
    for (const width of [...Array.from({ length: 17 }, (_, i) => i + 1), ...Array.from({ length: 13 }, (_, i) => 20 + 4 * i), 68]) {
      const [q, k, v] = [of([1, 2, width], dtype), of([1, 3, width], dtype), of([1, 3, width], dtype)];
      yield* by(attention(q, k, v, 1), [q, k, v]);
    }
  }
}

/** What trainings change in place. */
export function* updateGraphs(of: (shape: Shape, dtype?: DType) => Tensor): Generator<Tensor> {
  const each = () => of([5]);
  const numbers = { betas: [0.9, 0.999], epsilon: 1e-8, shorten: 1, rate: 1, root: 1, decay: 0, share: 0.5 };
  for (const average of [null, each()]) yield adamw({ w: each(), gradient: each(), first: each(), second: each(), average }, numbers);
  for (const w of [null, each()])
    yield collectGradient({ squares: of([64, 4]), g: each(), w, sum: each() }, { place: 0, before: 0, share: 1, decay: 0 });
  yield exchange(each(), each());
}

/** Derivatives through weights in blocks, which have none of their own. */
export function* blockGradients(of: (shape: Shape, dtype?: DType) => Tensor): Generator<Tensor> {
  for (const blocks of ['q8', 'q4'] as const) {
    const [x, rows] = [of([1, 3, 3, 64]), of([3, 64])];
    const y = conv2d(x, of([64, 3, 3, 64], blocks), null, { padding: 1 });
    yield* gradient(y, [x], { upstream: of(y.shape) });
    const z = linear(rows, of([64, 64], blocks));
    yield* gradient(z, [rows], { upstream: of(z.shape) });
  }
}
