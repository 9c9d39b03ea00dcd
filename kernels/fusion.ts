/**
 * Which operations fuse with the one that reads them: all rules in one place, first match first. What a rule makes has a shader that does both;
 * here is only how the graph is rewritten. The walk over the graph is core/fuse.ts.
 */
import type { AdapterFacts } from '../core/adapter.ts';
import { type FusionRule, fuse, rewrite, rule } from '../core/fuse.ts';
import { inputsOf, topological } from '../core/graph.ts';
import { graphKey } from '../core/graph-key.ts';
import { apply, isOp, type Op } from '../core/op.ts';
import { type Plan, type PlanLimits, type PlanOptions, planGraph } from '../core/plan.ts';
import { within } from '../core/scope.ts';
import { sameShape } from '../core/shape.ts';
import type { OpTensor, Parameter, Tensor } from '../core/tensor.ts';
import type { Activation } from './activation.ts';
import { add, type BinaryAttrs, binaryOp } from './binary.ts';
import { type Conv2dAttrs, conv2dOp } from './conv2d.ts';
import { gatherOp } from './copy.ts';
import { MOST_ROWS_OF_IMAGES } from './epilogue.ts';
import { gegluOp } from './geglu.ts';
import { groupMoments } from './group-moments.ts';
import { type GroupNorm, groupNormOp, normalizeGroupsOp } from './group-norm.ts';
import { groupNormGradientOp } from './group-norm-gradient.ts';
import { layerNormGradientOp } from './layer-norm-gradient.ts';
import { linearOp } from './linear.ts';
import type { LayerInputs } from './low-rank.ts';
import { reshape, reshapeOp } from './reshape.ts';
import { sideBySide } from './side-by-side.ts';
import { type UnaryAttrs, unaryOp } from './unary.ts';
import { modulateOp } from './zero-sft.ts';

type Conv2d = OpTensor<Conv2dAttrs, LayerInputs>;

/** Nearest upsampling to twice the size, then a convolution: the window sees every pixel of x twice, down and across. */
const zoomedConvolution = rule(gatherOp, conv2dOp, ({ source: { inputs, attrs } }, { source: convolution }, input) => {
  const { x } = inputs;
  const twice = attrs.axes.every(
    ({ from, size, before, repeat }, i) => from === i && before === 0 && repeat === [1, 2, 2, 1][i] && size === x.shape[i] * repeat,
  );
  if (!twice || x.shape.length !== 4 || input !== 'x') return null;
  return apply(conv2dOp, { ...convolution.inputs, x }, { ...convolution.attrs, zoom: 1 });
});

/** A value for each image and channel, such as a timestep's embedding, joins the bias of the convolution to whose result it is added. */
const biasOfImages = rule(conv2dOp, binaryOp, (producer, sum, input) => {
  const { shape, source } = producer;
  const { inputs, attrs } = source;
  if (!canEnd(producer) || attrs.activation !== 'none' || inputs.residual || inputs.scale || sum.source.attrs.fn !== 'add') return null;
  const value = otherOf(sum, input);
  const [n, h, w, o] = shape;
  if (value.dtype !== 'f32' || h * w === 1 || !sameShape(value.shape, [n, 1, 1, o]) || n * h * w > MOST_ROWS_OF_IMAGES) return null;
  const bias = inputs.bias ? withBias(value, inputs.bias) : value;
  return apply(conv2dOp, { ...inputs, bias: reshape(bias, [n, o]) }, attrs);
});

/** value (..., O) + bias (O). What a linear layer made has the sum of both biases as its own: of weights, so that it is computed once. */
function withBias(value: Tensor, bias: Tensor): Tensor {
  if (isOp(value, reshapeOp)) return reshape(withBias(value.source.inputs.x, bias), value.shape);
  if (!isOp(value, linearOp)) return add(value, bias);
  const { inputs, attrs } = value.source;
  const joins = inputs.bias !== null && attrs.activation === 'none' && !inputs.scale;
  return joins ? within(value.module, () => apply(linearOp, { ...inputs, bias: add(inputs.bias!, bias) }, attrs)) : add(value, bias);
}

/** Whether a convolution may end in something more: Winograd's adds adapters as a residual, before the activation. */
const canEnd = ({ source: { inputs, attrs } }: Conv2d) => !(inputs.t && attrs.activation !== 'none');

/** The activation that a consumer is, of those that kernels can end in. */
function activationOf({ source: { attrs } }: OpTensor<UnaryAttrs, { x: Tensor }>): Exclude<Activation, 'none'> | null {
  const { fn } = attrs;
  return fn === 'silu' || fn === 'gelu' || fn === 'quickGelu' ? fn : null;
}

type Sum = OpTensor<BinaryAttrs, { a: Tensor; b: Tensor }>;

/** The operand beside the one of that name. */
const otherOf = ({ source: { inputs } }: Sum, input: 'a' | 'b') => (input === 'a' ? inputs.b : inputs.a);

/** What is added to a producer's result, of the same shape. */
function residualOf(producer: Tensor, sum: Sum, input: 'a' | 'b'): Tensor | null {
  const other = otherOf(sum, input);
  return sum.source.attrs.fn === 'add' && sameShape(other.shape, producer.shape) ? other : null;
}

/** Matmuls and convolutions end in an activation and a sum with a tensor of the result's shape. */
const layerEnds: FusionRule[] = [
  rule(conv2dOp, unaryOp, ({ source: { inputs, attrs } }, consumer) => {
    const activation = activationOf(consumer);
    return activation && attrs.activation === 'none' && !inputs.residual ? apply(conv2dOp, inputs, { ...attrs, activation }) : null;
  }),
  rule(conv2dOp, binaryOp, (producer, sum, input) => {
    const { inputs, attrs } = producer.source;
    const residual = residualOf(producer, sum, input);
    return residual && !inputs.residual && canEnd(producer) ? apply(conv2dOp, { ...inputs, residual }, attrs) : null;
  }),
  rule(linearOp, gegluOp, ({ source: { inputs, attrs } }) =>
    attrs.activation === 'none' && !inputs.residual && !attrs.batched ? apply(linearOp, inputs, { ...attrs, activation: 'geglu' }) : null,
  ),
  rule(linearOp, unaryOp, ({ source: { inputs, attrs } }, consumer) => {
    const activation = activationOf(consumer);
    return activation && attrs.activation === 'none' && !inputs.residual ? apply(linearOp, inputs, { ...attrs, activation }) : null;
  }),
  rule(linearOp, binaryOp, (producer, sum, input) => {
    const { inputs, attrs } = producer.source;
    const residual = residualOf(producer, sum, input);
    return residual && !inputs.residual ? apply(linearOp, { ...inputs, residual }, attrs) : null;
  }),
];

/** A norm with the activation behind it. */
function activatedNorm({ source: { inputs, attrs } }: GroupNorm, consumer: OpTensor<UnaryAttrs, { x: Tensor }>): GroupNorm | null {
  const activation = activationOf(consumer);
  if (!activation || attrs.activation !== 'none' || attrs.modulation !== null) return null;
  return apply(groupNormOp, inputs, { ...attrs, activation }) as GroupNorm;
}

/** Norms end in an activation, or in a modulation (zero-sft.ts). */
const normEnds: FusionRule[] = [
  rule(groupNormOp, unaryOp, activatedNorm),
  rule(groupNormOp, modulateOp, ({ source: { inputs, attrs } }, { source: modulation }, input) => {
    if (attrs.modulation !== null || attrs.activation !== 'none' || input !== 'x') return null;
    const { gamma, beta, raw } = modulation.inputs;
    return apply(groupNormOp, { ...inputs, sftGamma: gamma, sftBeta: beta, raw }, { ...attrs, modulation: modulation.attrs.scale });
  }),
  rule(normalizeGroupsOp, unaryOp, ({ source: { inputs, attrs } }, consumer) => {
    const activation = activationOf(consumer);
    return activation && attrs.activation === 'none' ? apply(normalizeGroupsOp, inputs, { ...attrs, activation }) : null;
  }),
];

/**
 * The graph of `outputs` as it is best differentiated by some weights, or by anything: of norms that depend on these, what activations are given is made again
 * in the backward pass, not kept, and both passes share the moments.
 */
export function beforeGradient<Outputs extends Record<string, Tensor>>(
  outputs: Outputs,
  weights: readonly Parameter[] | null = null,
): Outputs {
  const activated = fuse(outputs, [rule(groupNormOp, unaryOp, activatedNorm)]);
  const depending = new Set<Tensor>();
  for (const tensor of topological(Object.values(activated))) {
    const { source } = tensor;
    const isOne = source.kind === 'parameter' && weights?.includes(source.parameter);
    if (!weights || isOne || inputsOf(tensor).some((input) => depending.has(input))) depending.add(tensor);
  }
  return rewrite(activated, (tensor, original) => {
    if (!isOp(tensor, groupNormOp) || tensor.source.inputs.moments || !depending.has(original)) return tensor;
    const { inputs, attrs } = tensor.source;
    return within(tensor.module, () => apply(groupNormOp, { ...inputs, moments: groupMoments(inputs.x, attrs.groups) }, attrs));
  });
}

/** A norm's derivative, and what comes to the same tensor around it. */
const gradientEnds = [layerNormGradientOp, groupNormGradientOp].map((gradientOp) => {
  const op = gradientOp as unknown as Op<unknown, { residual: Tensor | null }>;
  return rule(op, binaryOp, (producer, sum, input) => {
    const { inputs, attrs } = producer.source;
    const residual = residualOf(producer, sum, input);
    return residual?.dtype === 'f32' && !inputs.residual ? apply(op, { ...inputs, residual }, attrs) : null;
  });
});

export const FUSION_RULES: readonly FusionRule[] = [zoomedConvolution, biasOfImages, ...layerEnds, ...normEnds, ...gradientEnds];

/** The graph of `outputs`, fused. */
export const fused = (outputs: Record<string, Tensor>): Record<string, Tensor> => fuse(outputs, FUSION_RULES);

/** Of each adapter, the last plans that were made for it: a forecast's serve the run, one photo's the next of its size. */
const plans = new WeakMap<AdapterFacts, Map<string, Plan>>();
const MOST_PLANS = 16;

/** Fuses the graph of `outputs` and plans it. Throws ShapeError when a tensor exceeds the largest binding, naming it and the limit. */
export function plan(outputs: Record<string, Tensor>, facts: AdapterFacts, limits: PlanLimits, options: PlanOptions = {}): Plan {
  const { maxStorageBufferBindingSize, minUniformBufferOffsetAlignment } = limits;
  const { kept: staying = [], reused = null, hoisting = true } = options;
  const beside = [facts, maxStorageBufferBindingSize, minUniformBufferOffsetAlignment, staying, reused, hoisting];
  const key = `${graphKey(outputs)}\n${JSON.stringify(beside)}`;
  if (!plans.has(facts)) plans.set(facts, new Map());
  const kept = plans.get(facts)!;
  const found = kept.get(key) ?? planFused(fused(outputs), facts, limits, options);
  kept.delete(key);
  kept.set(key, found); // the last one
  if (kept.size > MOST_PLANS) kept.delete(kept.keys().next().value!);
  return found;
}

function planFused(outputs: Record<string, Tensor>, facts: AdapterFacts, limits: PlanLimits, options: PlanOptions): Plan {
  if (facts.schedule !== 'subgroup' || options.hoisting === false) return planGraph(outputs, facts, limits, options);
  const unhoisted = () => planGraph(outputs, facts, limits, { ...options, hoisting: false });
  return { ...planGraph(sideBySide(outputs), facts, limits, options), unhoisted };
}
