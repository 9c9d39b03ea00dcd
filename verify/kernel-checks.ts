/**
 * Every kind of kernel on a device against plain loops in f64, at odd, all-different sizes: what an owner of a GPU can run to learn whether its driver
 * computes right. Derivatives are compared along a random direction with central differences of the loops.
 */
import { type BlockDType, isBlocks } from '../core/blocks.ts';
import { constant, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, evaluate } from '../gpu/program.ts';
import { attention } from '../kernels/attention.ts';
import { attentionPart, attentionResult, mergeAttention } from '../kernels/attention-parts.ts';
import * as binary from '../kernels/binary.ts';
import { conv2d } from '../kernels/conv2d.ts';
import { concat, pad, permute, slice, upsampleNearest } from '../kernels/copy.ts';
import { gatherRows } from '../kernels/gather-rows.ts';
import { geglu } from '../kernels/geglu.ts';
import { gradient } from '../kernels/gradient.ts';
import { groupNorm } from '../kernels/group-norm.ts';
import { layerNorm } from '../kernels/layer-norm.ts';
import { linear, matmul } from '../kernels/linear.ts';
import { max, mean, sum } from '../kernels/reduce.ts';
import { softmax } from '../kernels/softmax.ts';
import * as unary from '../kernels/unary.ts';
import { where } from '../kernels/where.ts';
import { modulate } from '../kernels/zero-sft.ts';
import { type Accuracy, measure } from './accuracy.ts';
import { blockWeight } from './block-weight.ts';
import * as reference from './reference.ts';
import { type Sample, sampleOf, sampler, type Values } from './sample.ts';

export interface KernelCheck {
  /** What is computed, as a person would say it. */
  name: string;
  /** Compares one device. Throws where a value is no number or a command is refused. -> error as a share of what is allowed */
  run(device: Device): Promise<{ share: number; worst: string }>;
}

const EXACT = { terms: 0, ulps: 0 };

type Draw = ReturnType<typeof sampler>;

/** A graph beside its reference, made when the check is first run; in every schedule it is the same. */
function forward(name: string, accuracy: Accuracy, made: (draw: Draw) => [y: Tensor, expected: Values]): KernelCheck {
  const both = once(() => made(sampler(seedOf(name))));
  return {
    name,
    async run(device) {
      const [y, expected] = both();
      const values = await evaluate(device, y);
      if (accuracy !== EXACT) return measure(values, expected, accuracy);
      const wrong = expected.data.findIndex((value, i) => value !== values[i]);
      return {
        share: wrong < 0 ? 0 : Number.POSITIVE_INFINITY,
        worst: `element ${wrong} is ${values[wrong]}, expected ${expected.data[wrong]}`,
      };
    },
  };
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** Each check draws numbers of its own, whichever others are run. */
function seedOf(name: string): number {
  return Array.from(name).reduce((seed, letter) => (31 * seed + letter.charCodeAt(0)) % 2 ** 32, 2024);
}

const STEP = 1e-5;

/** Derivatives of sum(u f(inputs)), u random, by every input, each along one random direction. */
function derivative(
  name: string,
  shapes: readonly (readonly number[])[],
  graph: (...inputs: Tensor[]) => Tensor,
  exact: (...inputs: Values[]) => Values,
  terms: number,
): KernelCheck {
  const made = once(() => {
    const draw = sampler(seedOf(name));
    const inputs = shapes.map((shape) => draw(shape));
    const tensors = inputs.map(({ tensor }) => tensor);
    const y = graph(...tensors);
    const upstream = draw(y.shape);
    const directions = shapes.map((shape) => draw(shape).data);
    const loss = (values: Values[]) => dot(exact(...values).data, upstream.data);
    const moved = (which: number, by: number) =>
      inputs.map(({ shape, data }, i) => ({ shape, data: i === which ? data.map((value, j) => value + by * directions[i][j]) : data }));
    const expected = inputs.map((_, i) => (loss(moved(i, STEP)) - loss(moved(i, -STEP))) / (2 * STEP));
    const derivatives = gradient(y, tensors, { upstream: upstream.tensor });
    return { expected, directions, outputs: Object.fromEntries(derivatives.map((tensor, i) => [`d${i}`, tensor])) };
  });
  return {
    name: `derivatives of ${name}`,
    async run(device) {
      const { expected, directions, outputs } = made();
      const program = await compile(device, outputs);
      try {
        const results = await program.run();
        let [share, worst] = [0, ''];
        for (const [i, wanted] of expected.entries()) {
          const data = Float64Array.from(results[`d${i}`]);
          const along = dot(data, directions[i]);
          // Each product carries the derivative's own error, and these add up like a random walk.
          const scale = Math.sqrt(data.reduce((sum, value, j) => sum + (value * directions[i][j]) ** 2, 0));
          const found = Math.abs(along - wanted) / (4 * 2 ** -24 * (Math.sqrt(terms) + 24) * (scale + Math.abs(wanted)));
          if (!(found <= share)) [share, worst] = [found, `by input ${i}: ${along}, expected ${wanted}`];
        }
        return { share, worst };
      } finally {
        program.dispose();
      }
    },
  };
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i] * b[i];
  return total;
};

/** Every check, in order of how much depends on it. */
export function* kernelChecks(): Generator<KernelCheck> {
  const types = ['f32', 'f16'] as const;
  const weight = (draw: Draw, shape: readonly number[], dtype: 'f32' | 'f16' | BlockDType, std = 1) => {
    const plain = draw(shape, { dtype: dtype === 'f16' ? 'f16' : 'f32', std });
    return isBlocks(dtype) ? blockWeight(plain, dtype) : plain;
  };

  for (const [shape, outs] of [
    [[37, 72], 29],
    [[5, 9, 44], 40],
  ] as const) {
    for (const dtype of [...types, 'q8', 'q4'] as const) {
      // Blocks are of 32 weights.
      if (isBlocks(dtype) && (outs * shape[shape.length - 1]) % 32) continue;
      const inner = shape[shape.length - 1];
      const what = `matmul ${inner} to ${outs}, weights in ${dtype}`;
      const operands = (draw: Draw) => [draw(shape), weight(draw, [outs, inner], dtype), draw([outs])] as const;
      yield forward(what, { terms: inner }, (draw) => {
        const [x, w, bias] = operands(draw);
        return [linear(x.tensor, w.tensor, bias.tensor), reference.linear(x, w, bias)];
      });
      yield forward(`${what}, gelu and residual`, { terms: inner, ulps: 12 }, (draw) => {
        const [x, w, bias] = operands(draw);
        const expected = reference.linear(x, w, bias);
        const residual = draw(expected.shape);
        const all = binary.add(unary.gelu(linear(x.tensor, w.tensor, bias.tensor)), residual.tensor);
        return [all, reference.add(reference.map(expected, reference.gelu), residual)];
      });
    }
  }
  // Where few tiles are wide a GPU's schedule makes the sum in parts.
  yield forward('matmul, a long sum of few rows', { terms: 1304 }, (draw) => {
    const [x, w] = [draw([9, 1304]), draw([2900, 1304], { dtype: 'f16' })];
    return [linear(x.tensor, w.tensor), reference.linear(x, w, null)];
  });
  yield forward('matmul of two activations', { terms: 33 }, (draw) => {
    const [a, b] = [draw([3, 19, 33]), draw([3, 21, 33])];
    return [matmul(a.tensor, b.tensor, { transposed: true }), reference.matmul(a, b, true)];
  });

  for (const [shape, window, stride] of [
    [[2, 11, 13, 20], [16, 3, 3], 1],
    [[1, 12, 9, 7], [10, 3, 3], 2],
    [[1, 9, 11, 12], [8, 1, 1], 1],
    [[1, 31, 32, 64], [64, 3, 3], 1],
  ] as const) {
    for (const dtype of [...types, 'q8', 'q4'] as const) {
      const c = shape[3];
      if (isBlocks(dtype) && (c % 4 || (window[0] * window[1] * window[2] * c) % 32)) continue;
      // Winograd's convolution, of 64 channels, loses three to four bits.
      const accuracy = { terms: window[1] * window[2] * c, ulps: c === 64 ? 24 : 4 };
      yield forward(`convolution ${window.slice(1).join('x')}, stride ${stride}, ${c} channels, weights in ${dtype}`, accuracy, (draw) => {
        const [x, w] = [draw(shape), weight(draw, [...window, c], dtype, 0.3)];
        const padding = window[1] === 3 ? 1 : 0;
        const expected = reference.conv2d(x, w, null, { stride, padding: new Array(4).fill(padding) });
        return [conv2d(x.tensor, w.tensor, null, { stride, padding }), expected];
      });
    }
  }

  for (const width of [16, 40, 64, 96, 128, 512, 5, 33]) {
    yield forward(`attention, heads of ${width}`, { terms: width + 21, ulps: 24 }, (draw) => {
      const [q, k, v] = [draw([2, 13, 2 * width]), draw([2, 21, 2 * width]), draw([2, 21, 2 * width])];
      return [attention(q.tensor, k.tensor, v.tensor, 2), reference.attention(q, k, v, 2, false)];
    });
  }
  yield forward('attention, causal, f16', { terms: 35, ulps: 24 }, (draw) => {
    const tokens = draw([1, 19, 64], { dtype: 'f16' });
    const causal = attention(tokens.tensor, tokens.tensor, tokens.tensor, 4, { causal: true });
    return [causal, reference.attention(tokens, tokens, tokens, 4, true)];
  });
  yield forward('attention over keys in parts', { terms: 62, ulps: 24 }, (draw) => {
    const [q, k, v] = [draw([1, 9, 48]), draw([1, 14, 48]), draw([1, 14, 48])];
    const part = (from: number, to: number) => attentionPart(q.tensor, slice(k.tensor, 1, from, to), slice(v.tensor, 1, from, to), 1);
    const joined = attentionResult(mergeAttention(part(0, 5), part(5, 14), 1), 1);
    return [joined, reference.attention(q, k, v, 1, false)];
  });

  for (const dtype of types) {
    const of = (name: string, accuracy: Accuracy, made: (x: Sample, gamma: Sample, beta: Sample, other: Sample) => [Tensor, Values]) =>
      forward(`${name}, ${dtype}`, accuracy, (draw) => {
        const x = draw([2, 7, 9, 24], { dtype });
        return made(x, draw([24], { mean: 1 }), draw([24]), draw(x.shape, { dtype }));
      });
    const norm = { terms: 16, ulps: 8 };
    yield of('group norm', norm, (x, gamma, beta) => [
      groupNorm(x.tensor, gamma.tensor, beta.tensor, 8, 1e-5),
      reference.groupNorm(x, gamma, beta, 8, 1e-5),
    ]);
    yield of('group norm and silu', { terms: 16, ulps: 16 }, (x, gamma, beta) => [
      unary.silu(groupNorm(x.tensor, gamma.tensor, beta.tensor, 3, 1e-6)),
      reference.map(reference.groupNorm(x, gamma, beta, 3, 1e-6), reference.silu),
    ]);
    yield of('layer norm', norm, (x, gamma, beta) => [
      layerNorm(x.tensor, gamma.tensor, beta.tensor),
      reference.layerNorm(x, gamma, beta, 1e-5),
    ]);
    yield of('softmax', { terms: 24, ulps: 24 }, (x) => [softmax(x.tensor), reference.softmax(x)]);
    yield of('geglu', { ulps: 8 }, (x) => [geglu(x.tensor), reference.geglu(x)]);
    for (const [name, f, exact, ulps] of FUNCTIONS) yield of(name, { ulps }, (x) => [f(x.tensor), reference.map(x, exact)]);
    for (const [name, f, exact, ulps] of PAIRS)
      yield of(name, { ulps }, (x, gamma) => [f(x.tensor, gamma.tensor), reference.broadcast(x, gamma, exact)]);
    yield of('choice', EXACT, (x, _gamma, _beta, other) => [
      where(unary.relu(x.tensor), x.tensor, other.tensor),
      reference.where(
        reference.map(x, (v) => Math.max(v, 0)),
        x,
        other,
      ),
    ]);
    yield of('permutation', EXACT, (x) => [permute(x.tensor, [0, 3, 1, 2]), reference.permute(x, [0, 3, 1, 2])]);
    yield of('slice', EXACT, (x) => [slice(x.tensor, -1, 3, 20), reference.slice(x, 3, 3, 20)]);
    yield of('concatenation', EXACT, (x, _gamma, _beta, other) => [concat([x.tensor, other.tensor]), reference.concat([x, other], 3)]);
    yield of('nearest upsampling', EXACT, (x) => [upsampleNearest(x.tensor, 2), reference.upsampleNearest(x, 2)]);
    const around: [number, number][] = [
      [0, 0],
      [1, 2],
      [0, 1],
      [0, 0],
    ];
    yield of('padding', EXACT, (x) => [pad(x.tensor, around), reference.pad(x, around)]);
    for (const [axis, size] of [
      [3, 24],
      [1, 7],
    ] as const) {
      const options = { axis, keep: true };
      const accuracy = { terms: size, ulps: 2 };
      yield of(`sum along axis ${axis}`, accuracy, (x) => [sum(x.tensor, options), reference.reduced(x, axis, reference.sumOf)]);
      yield of(`mean along axis ${axis}`, accuracy, (x) => [
        mean(x.tensor, options),
        reference.reduced(x, axis, (v) => reference.sumOf(v) / size),
      ]);
      yield of(`maximum along axis ${axis}`, EXACT, (x) => [max(x.tensor, options), reference.reduced(x, axis, (v) => Math.max(...v))]);
    }
  }
  // Compilers may take infinity for impossible, so nothing may pass through it.
  for (const [name, f, exact, ulps] of FUNCTIONS.filter(([name]) => ['silu', 'gelu', 'quick gelu', 'sigmoid', 'tanh'].includes(name)))
    yield forward(`${name}, far from 0`, { ulps }, () => {
      const x = sampleOf([-500, -200, -104, -90, -88.5, -87, 87, 88.5, 90, 104, 200, 500], [12]);
      return [f(x.tensor), reference.map(x, exact)];
    });
  const rows = [3, 0, 10, 3];
  yield forward('rows by index', EXACT, (draw) => {
    const table = draw([11, 12]);
    return [gatherRows(table.tensor, indices(rows)), reference.gatherRows(table, rows)];
  });
  yield forward('modulation', { ulps: 6 }, (draw) => {
    const [normal, gamma, beta, raw] = [0, 1, 2, 3].map(() => draw([2, 5, 7, 12]));
    const y = modulate(normal.tensor, gamma.tensor, beta.tensor, raw.tensor, 0.7);
    return [y, reference.modulate(normal, gamma, beta, raw, 0.7)];
  });

  yield derivative(
    'matmul',
    [
      [9, 20],
      [13, 20],
    ],
    (x, w) => linear(x, w),
    (x, w) => reference.linear(x, w, null),
    33,
  );
  yield derivative(
    'convolution',
    [
      [1, 7, 9, 8],
      [12, 3, 3, 8],
    ],
    (x, w) => conv2d(x, w, null, { padding: 1 }),
    (x, w) => reference.conv2d(x, w, null, { padding: [1, 1, 1, 1] }),
    130,
  );
  yield derivative(
    'attention',
    [
      [1, 7, 32],
      [1, 9, 32],
      [1, 9, 32],
    ],
    (q, k, v) => attention(q, k, v, 2),
    (q, k, v) => reference.attention(q, k, v, 2, false),
    64,
  );
  yield derivative(
    'group norm',
    [[2, 5, 12], [12], [12]],
    (x, g, c) => groupNorm(x, g, c, 3),
    (x, g, c) => reference.groupNorm(x, g, c, 3, 1e-5),
    60,
  );
  yield derivative(
    'layer norm',
    [[5, 12], [12], [12]],
    (x, g, c) => layerNorm(x, g, c),
    (x, g, c) => reference.layerNorm(x, g, c, 1e-5),
    60,
  );
  yield derivative(
    'softmax',
    [[6, 11]],
    (x) => softmax(x),
    (x) => reference.softmax(x),
    16,
  );
  yield derivative(
    'geglu',
    [[6, 22]],
    (x) => geglu(x),
    (x) => reference.geglu(x),
    8,
  );
  yield derivative(
    'silu',
    [[6, 11]],
    (x) => unary.silu(x),
    (x) => reference.map(x, reference.silu),
    8,
  );
  yield derivative(
    'rows by index',
    [[11, 12]],
    (x) => gatherRows(x, indices(rows)),
    (x) => reference.gatherRows(x, rows),
    4,
  );
}

const indices = (rows: number[]) => constant(Uint32Array.from(rows), [rows.length]);

type Unary = readonly [name: string, graph: (x: Tensor) => Tensor, exact: (x: number) => number, ulps: number];
type Pair = readonly [name: string, graph: (a: Tensor, b: Tensor) => Tensor, exact: (a: number, b: number) => number, ulps: number];

/** Accuracies by WGSL's rules: a unit in the last place is two of 2^-24. */
const FUNCTIONS: readonly Unary[] = [
  ['silu', unary.silu, reference.silu, 32],
  ['gelu', unary.gelu, reference.gelu, 12],
  ['quick gelu', unary.quickGelu, reference.quickGelu, 32],
  ['exp', unary.exp, Math.exp, 32],
  ['sigmoid', unary.sigmoid, reference.sigmoid, 32],
  ['tanh', unary.tanh, Math.tanh, 12],
  ['square', unary.square, (x) => x * x, 2],
  ['sine', unary.sin, Math.sin, 12],
  ['cosine', unary.cos, Math.cos, 12],
];
const PAIRS: readonly Pair[] = [
  ['sum of two', binary.add, (x, y) => x + y, 2],
  ['difference', binary.sub, (x, y) => x - y, 2],
  ['product', binary.mul, (x, y) => x * y, 2],
  ['quotient', binary.div, (x, y) => x / y, 16],
  ['greater of two', binary.maximum, Math.max, 0],
];
