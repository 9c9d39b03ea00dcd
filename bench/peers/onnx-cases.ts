/** The benchmark's operations as ONNX models, for every runtime that takes these. */
import { type Case, EPS, GROUPS } from '../cases.ts';
import { turn } from '../contender.ts';
import type { Node } from './onnx.ts';

interface Model {
  nodes: Node[];
  inputs: Record<string, { data: Float32Array; shape: number[] }>;
  constants?: Record<string, number[]>;
  /** Rows and columns of the result where it comes channels first. */
  channelsFirst?: [number, number];
}

export function modelOf({ kind, size, inputs }: Case): Model {
  const of = (name: string, ...shape: number[]) => ({ data: inputs[name], shape });
  if (kind === 'matmul') {
    const [m, k, n] = size;
    return {
      nodes: [{ op: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
      inputs: { x: of('x', m, k), w: { data: turn(inputs.w, n, k), shape: [k, n] } },
    };
  }
  if (kind === 'conv2d') {
    const [s, c, o] = size;
    const w = new Float32Array(inputs.w.length);
    for (let i = 0; i < o; i++) w.set(turn(inputs.w.subarray(i * 9 * c, (i + 1) * 9 * c), 9, c), i * 9 * c);
    return {
      nodes: [{ op: 'Conv', inputs: ['x', 'w'], outputs: ['y'], attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] } }],
      inputs: { x: { data: turn(inputs.x, s * s, c), shape: [1, c, s, s] }, w: { data: w, shape: [o, c, 3, 3] } },
      channelsFirst: [o, s * s],
    };
  }
  if (kind === 'attention') {
    const [queries, keys, heads, width] = size;
    return {
      nodes: [
        { op: 'MultiHeadAttention', inputs: ['q', 'k', 'v'], outputs: ['y'], attributes: { num_heads: heads }, domain: 'com.microsoft' },
      ],
      inputs: { q: of('q', 1, queries, heads * width), k: of('k', 1, keys, heads * width), v: of('v', 1, keys, heads * width) },
    };
  }
  const [rows, channels] = size;
  if (kind === 'geglu') {
    return {
      nodes: [
        { op: 'Split', inputs: ['x'], outputs: ['value', 'gate'], attributes: { axis: 1 } },
        { op: 'Gelu', inputs: ['gate'], outputs: ['factor'], domain: 'com.microsoft' },
        { op: 'Mul', inputs: ['value', 'factor'], outputs: ['y'] },
      ],
      inputs: { x: of('x', rows, 2 * channels) },
    };
  }
  if (kind === 'layerNorm') {
    return {
      nodes: [
        { op: 'LayerNormalization', inputs: ['x', 'gamma', 'beta'], outputs: ['y'], attributes: { axis: 1, epsilon: { float: EPS } } },
      ],
      inputs: { x: of('x', rows, channels), gamma: of('gamma', channels), beta: of('beta', channels) },
    };
  }
  const ones = { data: new Float32Array(GROUPS).fill(1), shape: [GROUPS] };
  return {
    nodes: [
      { op: 'Reshape', inputs: ['x', 'grouped'], outputs: ['groups'] },
      { op: 'InstanceNormalization', inputs: ['groups', 'one', 'zero'], outputs: ['normal'], attributes: { epsilon: { float: EPS } } },
      { op: 'Reshape', inputs: ['normal', 'whole'], outputs: ['back'] },
      { op: 'Mul', inputs: ['back', 'gamma'], outputs: ['scaled'] },
      { op: 'Add', inputs: ['scaled', 'beta'], outputs: ['affine'] },
      { op: 'Sigmoid', inputs: ['affine'], outputs: ['gate'] },
      { op: 'Mul', inputs: ['affine', 'gate'], outputs: ['y'] },
    ],
    inputs: {
      x: { data: turn(inputs.x, rows, channels), shape: [1, channels, rows] },
      gamma: of('gamma', 1, channels, 1),
      beta: of('beta', 1, channels, 1),
      one: ones,
      zero: { data: new Float32Array(GROUPS), shape: [GROUPS] },
    },
    constants: { grouped: [1, GROUPS, (channels / GROUPS) * rows], whole: [1, channels, rows] },
    channelsFirst: [channels, rows],
  };
}
