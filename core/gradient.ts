/**
 * Reverse-mode differentiation: the graph of a loss's derivatives, built of the rules that kernel files give (Op.gradient). It happens before
 * fusion, on the graph as it was traced, and computes nothing; what of it nobody asks for is never run.
 * (Griewank & Walther 2008, ch. 3; dropping and recomputing: Chen et al. 2016, "Training deep nets with sublinear memory cost")
 */
import { UserError } from './errors.ts';
import { inputsOf, topological } from './graph.ts';
import { type OpTensor, withInputs } from './op.ts';
import { constant, describe, type Parameter, sameShape, showShape, type Tensor } from './tensor.ts';

export interface GradientOptions {
  /** The derivative by `of`, in its shape; default 1, for a loss of one element. */
  upstream?: Tensor;
  /**
   * Which results stay in memory from the forward pass until the backward pass reads them; all others are computed a second time where they
   * are needed. Default: all stay.
   */
  keep?: (result: Tensor) => boolean;
}

/** How tensors and weights are told apart: a weight makes a new graph node wherever it is read. */
type Identity = Tensor | Parameter;
const identity = (tensor: Tensor): Identity => (tensor.source.kind === 'parameter' ? tensor.source.parameter : tensor);

/** How two derivatives that arrive at one tensor are added; the framework itself has no kernels. */
type Add = (a: Tensor, b: Tensor) => Tensor;

/**
 * Makes `gradient`: the derivatives of `of` by each of `wrt` (inputs, weights or intermediate results of its graph), f32 in their shapes. Weights are in the
 * layout they are stored in on the GPU. Throws UserError when `of` does not depend on one of them, or an operation between has no rule.
 */
export const differentiation =
  (add: Add) =>
  (of: Tensor, wrt: Tensor[], options: GradientOptions = {}): Tensor[] =>
    differentiate(of, wrt, options, add);

function differentiate(of: Tensor, wrt: Tensor[], { upstream, keep }: GradientOptions, add: Add): Tensor[] {
  const seed = upstream ?? constant(Float32Array.of(1), new Array(of.shape.length).fill(1));
  if (!sameShape(seed.shape, of.shape))
    throw new UserError(
      `gradient: ${describe(of)} has more than one element; give its upstream derivative in shape ${showShape(of.shape)}, or reduce it to a loss.`,
    );
  const order = topological([of]);
  const needed = new Set<Identity>(wrt.map(identity));
  for (const tensor of order) {
    if (inputsOf(tensor).some((input) => needed.has(identity(input)))) needed.add(tensor);
  }

  const again = keep ? recomputation(keep) : (result: OpTensor<unknown>) => result;
  const derivatives = new Map<Identity, Tensor>([[identity(of), seed]]);
  for (const tensor of order.reverse()) {
    const arrived = derivatives.get(tensor);
    if (!arrived || tensor.source.kind !== 'op' || !needed.has(tensor)) continue;
    const { op, inputs } = tensor.source;
    if (!op.gradient) throw new UserError(`gradient: the operation '${op.name}' of ${describe(tensor)} has no gradient rule.`);
    const parts = op.gradient(again(tensor as OpTensor<unknown>), arrived);
    for (const [name, input] of Object.entries(inputs)) {
      const part = parts[name];
      if (!input || !part || !needed.has(identity(input))) continue;
      if (!sameShape(part.shape, input.shape)) throw new Error(`gradient: ${op.name} gives ${describe(part)} for ${describe(input)}`);
      const before = derivatives.get(identity(input));
      derivatives.set(identity(input), before ? add(before, part) : part);
    }
  }
  return wrt.map((tensor) => {
    const derivative = derivatives.get(identity(tensor));
    if (!derivative) throw new UserError(`gradient: ${describe(of)} does not depend on ${describe(tensor)} in a differentiable way.`);
    return derivative;
  });
}

/** Makes a result again from what is kept; copies are shared by those that need them. */
function recomputation(keep: (result: Tensor) => boolean): (result: OpTensor<unknown>) => OpTensor<unknown> {
  const copies = new Map<Tensor, OpTensor<unknown>>();
  const again = (result: OpTensor<unknown>): OpTensor<unknown> => {
    let copy = copies.get(result);
    if (!copy) {
      copy = withInputs(result, (input) => (input.source.kind !== 'op' || keep(input) ? input : again(input as OpTensor<unknown>)));
      copies.set(result, copy);
    }
    return copy;
  };
  return again;
}
