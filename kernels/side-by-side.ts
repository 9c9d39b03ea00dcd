/**
 * Linear layers of the same x, such as an attention's queries, keys and values or the layers of a timestep in all blocks, as one: their weights one after the
 * other, as they lie or put together once, and their results one after the other (linear.ts), of which each is a part.
 *
 * For CPU drivers, where a dispatch costs as much as the work of a small layer: threads are woken up for it.
 */
import { rewrite } from '../core/fuse.ts';
import { inputsOf, topological } from '../core/graph.ts';
import { apply, isOp } from '../core/op.ts';
import { within } from '../core/scope.ts';
import { sameShape } from '../core/shape.ts';
import type { OpTensor, Tensor } from '../core/tensor.ts';
import { concat } from './copy.ts';
import { type LinearAttrs, linearOp } from './linear.ts';
import type { LayerInputs } from './low-rank.ts';
import { part, partOp, placeBehind } from './part.ts';

type Linear = OpTensor<LinearAttrs, LayerInputs>;

/** Most elements of weights that are put together: they are kept twice. */
const MOST = 2 ** 18;

/** The graph of `outputs`, of which something changes seldom, with layers of the same x as one; keys and shapes of the outputs stay. */
export function sideBySide<Outputs extends Record<string, Tensor>>(outputs: Outputs): Outputs {
  const groups = groupsOf(topological(Object.values(outputs)));
  if (groups.size === 0) return outputs;
  const joint = new Map<Linear[], Tensor>();
  return rewrite(outputs, (rewritten, original) => {
    const layers = groups.get(original);
    if (!layers) return rewritten;
    if (!joint.has(layers))
      joint.set(
        layers,
        within(original.module, () => together(layers, (rewritten as Linear).source.inputs)),
      );
    return part(joint.get(layers)!, layers.indexOf(original as Linear) * placeBehind(original.size), original.shape);
  });
}

/** `inputs` are those of one of them in the new graph. */
function together(layers: Linear[], { x, w }: LayerInputs): Tensor {
  const [{ source }] = layers;
  const all = (name: 'w' | 'bias') =>
    concat(
      layers.map((layer) => layer.source.inputs[name]!),
      0,
    );
  const [outs, ins] = w.shape;
  const first = firstIn(source.inputs.w);
  const weights = first !== null && isOp(w, partOp) ? part(w.source.inputs.x, first, [layers.length * outs, ins]) : all('w');
  return apply(
    linearOp,
    { ...source.inputs, x, w: weights, bias: source.inputs.bias && all('bias') },
    { ...source.attrs, layers: layers.length },
  );
}

/** Of every layer that is one of several, all of them. */
function groupsOf(order: readonly Tensor[]): Map<Tensor, Linear[]> {
  const found = new Map<Tensor, Linear[]>();
  const steady = steadyAmong(order);
  if (!order.some(isRunAgain)) return found;
  const ofInput = new Map<Tensor, Linear[][]>();
  for (const layer of order) {
    if (!isOp(layer, linearOp) || !canJoin(layer as Linear, steady)) continue;
    const { x } = layer.source.inputs;
    if (!ofInput.has(x)) ofInput.set(x, []);
    const group = ofInput.get(x)!.find((group) => alike(group[group.length - 1], layer as Linear));
    if (group) group.push(layer as Linear);
    else ofInput.get(x)!.push([layer as Linear]);
  }
  for (const groups of ofInput.values())
    for (const group of groups)
      if (group.length > 1 && group.length * group[0].source.inputs.w.size <= MOST) for (const layer of group) found.set(layer, group);
  return found;
}

/** Whether a tensor tells that what is made of others is kept from run to run: an input that changes seldom, or a weight in training. */
function isRunAgain({ source }: Tensor): boolean {
  return source.kind === 'input' ? source.changes === 'seldom' : source.kind === 'parameter' && source.parameter.changes === 'every run';
}

/** Whether a layer is no more than a sum, of weights that stay, over what changes with every run. */
function canJoin({ source: { inputs, attrs } }: Linear, steady: ReadonlySet<Tensor>): boolean {
  const { x, w, bias, scale, t, residual } = inputs;
  const bare = !scale && !t && !residual && attrs.activation === 'none' && !attrs.batched && !attrs.turned;
  const floats = w.dtype === 'f32' || w.dtype === 'f16';
  const stays = steady.has(w) || firstIn(w) !== null;
  return bare && floats && w.shape[0] % 4 === 0 && !steady.has(x) && stays && (!bias || steady.has(bias));
}

/** Whether b may follow a. */
function alike(a: Linear, b: Linear): boolean {
  const [one, other] = [a.source.inputs, b.source.inputs];
  if (!sameShape(one.w.shape, other.w.shape) || !one.bias !== !other.bias) return false;
  if (!isOp(one.w, partOp) || !isOp(other.w, partOp)) return !isOp(one.w, partOp) && !isOp(other.w, partOp);
  return one.w.source.inputs.x === other.w.source.inputs.x && firstIn(other.w) === firstIn(one.w)! + one.w.size;
}

/** A weight's first element in the tensor that it lies in among others, as those do that adapters are added to; null where it lies alone. */
const firstIn = (w: Tensor): number | null => (isOp(w, partOp) ? w.source.attrs.first : null);

/** The tensors that do not change from run to run. */
function steadyAmong(order: readonly Tensor[]): Set<Tensor> {
  const found = new Set<Tensor>();
  for (const tensor of order) {
    const { source } = tensor;
    const stays =
      source.kind === 'op'
        ? inputsOf(tensor).every((input) => found.has(input))
        : source.kind === 'constant' || (source.kind === 'input' ? source.changes : source.parameter.changes) === 'seldom';
    if (stays) found.add(tensor);
  }
  return found;
}
