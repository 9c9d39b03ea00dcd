/**
 * Which operations fuse with the one that reads them: all rules in one place, first match first. What a rule makes has a shader that does both;
 * here is only how the graph is rewritten. The walk over the graph is core/fuse.ts.
 */
import type { AdapterFacts } from '../core/adapter.ts';
import { type FusionRule, fuse, rule } from '../core/fuse.ts';
import { apply } from '../core/op.ts';
import { type Plan, type PlanLimits, planGraph } from '../core/plan.ts';
import { sameShape } from '../core/shape.ts';
import type { OpTensor, Tensor } from '../core/tensor.ts';
import type { Activation } from './activation.ts';
import { add, binaryOp } from './binary.ts';
import { conv2dOp } from './conv2d.ts';
import { gatherOp } from './copy.ts';
import { MOST_ROWS_OF_IMAGES } from './epilogue.ts';
import { gegluOp } from './geglu.ts';
import { groupNormOp, normalizeGroupsOp } from './group-norm.ts';
import { linearOp } from './linear.ts';
import { reshape } from './reshape.ts';
import { unaryOp } from './unary.ts';
import { modulateOp } from './zero-sft.ts';

type Attrs<T> = T extends { infer(inputs: Tensor[], attrs: infer A): unknown } ? A : never;
type Unary = OpTensor<Attrs<typeof unaryOp>>;
type Binary = OpTensor<Attrs<typeof binaryOp>>;
type Conv2d = OpTensor<Attrs<typeof conv2dOp>>;

/** Nearest upsampling to twice the size, then a convolution: the window sees every pixel of x twice, down and across. */
const zoomedConvolution = rule(gatherOp, conv2dOp, ({ source: { inputs, attrs } }, consumer, index) => {
  const [x] = inputs;
  const twice = attrs.axes.every(
    ({ from, size, before, repeat }, i) => from === i && before === 0 && repeat === [1, 2, 2, 1][i] && size === x.shape[i] * repeat,
  );
  if (!twice || x.shape.length !== 4 || index !== 0) return null;
  return apply(conv2dOp, [...inputs, ...consumer.source.inputs.slice(1)], { ...consumer.source.attrs, zoom: 1 });
});

/** A value for each image and channel, such as a timestep's embedding, joins the bias of the convolution to whose result it is added. */
const biasOfImages = rule(conv2dOp, binaryOp, (producer, consumer, index) => {
  const { shape, source } = producer;
  const { inputs, attrs } = source;
  if (!canEnd(producer) || attrs.activation !== 'none' || attrs.hasResidual || attrs.scaled || consumer.source.attrs.fn !== 'add')
    return null;
  const value = consumer.source.inputs[1 - index];
  const [n, h, w, o] = shape;
  if (value.dtype !== 'f32' || h * w === 1 || !sameShape(value.shape, [n, 1, 1, o]) || n * h * w > MOST_ROWS_OF_IMAGES) return null;
  const ofImages = reshape(value, [n, o]);
  const bias = attrs.hasBias ? add(ofImages, inputs[2]) : ofImages;
  return apply(conv2dOp, [inputs[0], inputs[1], bias, ...inputs.slice(attrs.hasBias ? 3 : 2)], { ...attrs, hasBias: true });
});

/** Whether a convolution may end in something more: Winograd's adds adapters as a residual, before the activation. */
const canEnd = ({ source: { attrs } }: Conv2d) => !(attrs.hasLowRank && attrs.activation !== 'none');

/** The activation that a consumer is, of those that kernels can end in. */
function activationOf({ source: { attrs } }: Unary): Exclude<Activation, 'none'> | null {
  const { fn } = attrs;
  return fn === 'silu' || fn === 'gelu' || fn === 'quickGelu' ? fn : null;
}

/** What is added to a producer's result of the same shape. */
function residualOf(producer: Tensor, { source: { inputs, attrs } }: Binary, index: number): Tensor | null {
  const other = inputs[1 - index];
  return attrs.fn === 'add' && sameShape(other.shape, producer.shape) ? other : null;
}

/** Matmuls and convolutions end in an activation and a sum with a tensor of the result's shape. */
const layerEnds: FusionRule[] = [
  rule(conv2dOp, unaryOp, (producer, consumer) => {
    const { inputs, attrs } = producer.source;
    const activation = activationOf(consumer);
    if (!activation || attrs.activation !== 'none' || attrs.hasResidual) return null;
    return apply(conv2dOp, inputs, { ...attrs, activation });
  }),
  rule(conv2dOp, binaryOp, (producer, consumer, index) => {
    const { inputs, attrs } = producer.source;
    const residual = residualOf(producer, consumer, index);
    if (!residual || attrs.hasResidual || !canEnd(producer)) return null;
    return apply(conv2dOp, [...inputs, residual], { ...attrs, hasResidual: true });
  }),
  rule(linearOp, gegluOp, ({ source: { inputs, attrs } }) =>
    attrs.activation === 'none' && !attrs.hasResidual && !attrs.batched ? apply(linearOp, inputs, { ...attrs, activation: 'geglu' }) : null,
  ),
  rule(linearOp, unaryOp, ({ source: { inputs, attrs } }, consumer) => {
    const activation = activationOf(consumer);
    if (!activation || attrs.activation !== 'none' || attrs.hasResidual) return null;
    return apply(linearOp, inputs, { ...attrs, activation });
  }),
  rule(linearOp, binaryOp, (producer, consumer, index) => {
    const { inputs, attrs } = producer.source;
    const residual = residualOf(producer, consumer, index);
    return residual && !attrs.hasResidual ? apply(linearOp, [...inputs, residual], { ...attrs, hasResidual: true }) : null;
  }),
];

/** Norms end in an activation, or in a modulation (zero-sft.ts). */
const normEnds: FusionRule[] = [
  rule(groupNormOp, unaryOp, ({ source: { inputs, attrs } }, consumer) => {
    const activation = activationOf(consumer);
    if (!activation || attrs.activation !== 'none' || attrs.modulation !== null) return null;
    return apply(groupNormOp, inputs, { ...attrs, activation });
  }),
  rule(groupNormOp, modulateOp, ({ source: { inputs, attrs } }, { source: consumer }, index) => {
    if (attrs.modulation !== null || attrs.activation !== 'none' || index !== 0) return null;
    return apply(groupNormOp, [...inputs, ...consumer.inputs.slice(1)], { ...attrs, modulation: consumer.attrs.scale });
  }),
  rule(normalizeGroupsOp, unaryOp, ({ source: { inputs, attrs } }, consumer) => {
    const activation = activationOf(consumer);
    return activation && attrs.activation === 'none' ? apply(normalizeGroupsOp, inputs, { ...attrs, activation }) : null;
  }),
];

export const FUSION_RULES: readonly FusionRule[] = [zoomedConvolution, biasOfImages, ...layerEnds, ...normEnds];

/** Fuses the graph of `outputs` and plans it. Throws ShapeError when a tensor exceeds the largest binding, naming it and the limit. */
export function plan(outputs: Record<string, Tensor>, facts: AdapterFacts, limits: PlanLimits): Plan {
  return planGraph(fuse(outputs, FUSION_RULES), facts, limits);
}
