/** A traced graph in f64, operation by operation as verify/reference.ts writes them down: what a network as a whole is judged by. */
import { topological } from '../../core/graph.ts';
import { isOp } from '../../core/op.ts';
import type { Inputs, Op, OpTensor, Parameter, Scalar, Tensor } from '../../core/tensor.ts';
import { attentionOp } from '../../kernels/attention.ts';
import { type BinaryFunction, binaryOp } from '../../kernels/binary.ts';
import { conv2dOp } from '../../kernels/conv2d.ts';
import { concatOp, gatherOp } from '../../kernels/copy.ts';
import { depthToSpaceOp } from '../../kernels/depth-to-space.ts';
import { gatherRowsOp } from '../../kernels/gather-rows.ts';
import { gegluOp } from '../../kernels/geglu.ts';
import { groupNormOp } from '../../kernels/group-norm.ts';
import { layerNormOp } from '../../kernels/layer-norm.ts';
import { linearOp } from '../../kernels/linear.ts';
import { reduceOp } from '../../kernels/reduce.ts';
import { reshapeOp } from '../../kernels/reshape.ts';
import { softmaxOp } from '../../kernels/softmax.ts';
import { unaryOp } from '../../kernels/unary.ts';
import { windowAttentionOp } from '../../kernels/window-attention.ts';
import { modulateOp } from '../../kernels/zero-sft.ts';
import * as reference from '../../verify/reference.ts';
import type { Values } from '../../verify/sample.ts';

type InF64<I extends Inputs> = { [Name in keyof I]: null extends I[Name] ? Values | null : Values };

/** The result of an operation; null where another made it. */
type Rule = (tensor: Tensor, values: ReadonlyMap<Tensor, Values>) => Values | null;

function rule<Attrs, I extends Inputs>(
  op: Op<Attrs, I>,
  compute: (inputs: InF64<I>, attrs: Attrs, result: OpTensor<Attrs, I>) => Values,
): Rule {
  return (tensor, values) => {
    if (!isOp(tensor, op)) return null;
    const inputs = Object.entries(tensor.source.inputs).map(([name, input]) => [name, input && values.get(input)!]);
    return compute(Object.fromEntries(inputs), tensor.source.attrs, tensor);
  };
}

const BINARY: Record<BinaryFunction, (a: number, b: number) => number> = {
  ...{ add: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b, div: (a, b) => a / b, addProduct: (a, b) => a + a * b },
  ...{ max: Math.max, min: Math.min, greater: (a, b) => Number(a > b), less: (a, b) => Number(a < b), equal: (a, b) => Number(a === b) },
};

function fixed(scalar: Scalar): number {
  if (typeof scalar === 'number') return scalar;
  throw new Error(`The reference takes numbers, and the graph reads the scalar ${scalar.name}.`);
}

/** Before fusion: layers have no activation, adapter or residual of their own. */
const RULES: Rule[] = [
  rule(unaryOp, ({ x }, { fn, scale, shift }) => {
    const [factor, constant] = [fixed(scale), fixed(shift)];
    const functions: Partial<Record<typeof fn, (value: number) => number>> = {
      ...{ silu: reference.silu, gelu: reference.gelu, quickGelu: reference.quickGelu, square: (v) => v * v, cast: (v) => v },
      ...{ affine: (v) => factor * v + constant, relu: (v) => Math.max(v, 0), leakyRelu: (v) => (v > 0 ? v : factor * v) },
    };
    return reference.map(x, functions[fn]!);
  }),
  rule(binaryOp, ({ a, b }, { fn }) => reference.broadcast(a, b, BINARY[fn])),
  rule(linearOp, ({ x, w, bias }, { batched }) => (batched ? reference.matmul(x, w, true) : reference.linear(x, w, bias))),
  rule(conv2dOp, ({ x, w, bias }, { stride, padding }) => reference.conv2d(x, w, bias, { stride, padding })),
  rule(groupNormOp, ({ x, gamma, beta }, { groups, eps }) => reference.groupNorm(x, gamma, beta, groups, eps)),
  rule(layerNormOp, ({ x, gamma, beta }, { eps }) => reference.layerNorm(x, gamma, beta, eps)),
  rule(gegluOp, ({ x }) => reference.geglu(x)),
  rule(softmaxOp, ({ x }) => reference.softmax(x)),
  rule(attentionOp, ({ q, k, v }, { heads, causal }) => reference.attention(q, k, v, heads, causal)),
  rule(windowAttentionOp, ({ qkv, bias }, attrs) => reference.windowAttention(qkv, bias, attrs)),
  rule(modulateOp, ({ x, gamma, beta, raw }, { scale }) => reference.modulate(x, gamma, beta, raw, fixed(scale))),
  rule(gatherRowsOp, ({ x, index }) => reference.gatherRows(x, [...index.data])),
  rule(concatOp, (parts, { axis }) => reference.concat(Object.values(parts), axis)),
  rule(reshapeOp, ({ x }, _, { shape }) => ({ shape, data: x.data })),
  rule(reduceOp, ({ x }, { fn, axis, factor }) =>
    reference.reduced(x, axis, (all) => (fn === 'max' ? Math.max(...all) : factor * reference.sumOf(all))),
  ),
  rule(gatherOp, ({ x }, { axes }) =>
    reference.build(
      axes.map(({ size }) => size),
      (index) => {
        const from = x.shape.map(() => 0);
        for (const [i, axis] of axes.entries()) from[axis.from] = Math.floor((index[i] - axis.before) / axis.repeat);
        return from.every((place, axis) => place >= 0 && place < x.shape[axis]) ? reference.at(x, from) : 0;
      },
    ),
  ),
  rule(depthToSpaceOp, ({ x }, { r }, { shape }) =>
    reference.build(shape, ([n, h, w, c]) =>
      reference.at(x, [n, Math.floor(h / r), Math.floor(w / r), ((h % r) * r + (w % r)) * shape[3] + c]),
    ),
  ),
];

/** The values of a tensor, given those of inputs and weights; weights in the order that they have on the GPU. */
export function inF64(
  output: Tensor,
  inputs: Readonly<Record<string, unknown>>,
  weight: (weight: Parameter) => ArrayLike<number>,
): Float64Array {
  const values = new Map<Tensor, Values>();
  for (const tensor of topological([output])) {
    const { source, shape } = tensor;
    const known = (data: ArrayLike<number>) => ({ shape, data: Float64Array.from(data) });
    if (source.kind === 'op') values.set(tensor, computed(tensor, values));
    else if (source.kind === 'parameter') values.set(tensor, known(weight(source.parameter)));
    else values.set(tensor, known(source.kind === 'input' ? (inputs[source.name] as ArrayLike<number>) : source.data));
    if (values.get(tensor)!.data.length !== tensor.size) throw new Error(`The reference gives the wrong number of values for ${shape}.`);
  }
  return values.get(output)!.data;
}

function computed(tensor: Tensor, values: ReadonlyMap<Tensor, Values>): Values {
  for (const each of RULES) {
    const found = each(tensor, values);
    if (found) return found;
  }
  throw new Error(`The reference has no rule for ${tensor.source.kind === 'op' ? tensor.source.op.name : 'this'}.`);
}
