/**
 * The gradients of groupNorm, y = act(gamma n + beta) with n = (x - mean) s, s = 1 / sqrt(var + eps). With g the derivative by y and h = g act'(...):
 *   sums of a channel's pixels in an image: of h, and of h n. Those of h over all images are beta's derivative, the others gamma's;
 *   dx = s (gamma h - mean(gamma h) - n mean(gamma h n)) + residual, means over an image's group of channels, which are made of the same sums.
 * g (N, ..., C) f32; x (N, ..., C) f32 | f16; moments (N, groups, 2) f32 as groupMoments gives them; gamma, beta (C) f32; sums (N, 2, C); dx and
 * residual, which may be absent, x's shape, f32.
 */
import { apply, type Op } from '../core/op.ts';
import { type DType, elementType, loopBelow, shader, when } from '../core/shader.ts';
import { type OperandsOf, sizeOf, type Tensor } from '../core/tensor.ts';
import { type Activation, activationWgsl } from './activation.ts';
import { lowerSum } from './sum-axis.ts';
import { slopeWgsl } from './unary-gradient.ts';

interface Attrs {
  eps: number;
  activation: Activation;
}

type SumInputs = { g: Tensor; x: Tensor; moments: Tensor; gamma: Tensor; beta: Tensor };

/** Pixels of a run that one thread takes: few on GPUs, which want many threads. */
const RUN = { subgroup: 64, tiled: 16, matrix: 16 };

/** Sums of h and of h n over pixels. -> (N, 2, C) */
export function groupNormSums(inputs: SumInputs, attrs: Attrs): Tensor {
  return apply(groupNormSumsOp, inputs, attrs);
}

export const groupNormSumsOp: Op<Attrs, SumInputs> = {
  name: 'groupNormSums',

  infer({ x }) {
    return { shape: [x.shape[0], 2, x.shape[x.shape.length - 1]], dtype: 'f32' };
  },

  lower(inputs, output, attrs, to) {
    const { shape, loads, sameGroup, params } = sizes(inputs, attrs, RUN[to.facts.schedule]);
    const { images, channels, runs } = shape;
    const partial = runs === 1 ? output : to.scratch('sums of runs', [images, runs, 2, channels]);
    const threads = (images * runs * channels) / loads;
    to.dispatch({
      shader: sumsShader(loads, sameGroup, inputs.x.dtype, attrs.activation),
      operands: { ...inputs, y: partial },
      params: { ...params, count: threads },
      threads,
    });
    if (runs > 1) lowerSum(to, partial, output, images, runs);
  },
};

/** dx, given what groupNormSums gave. */
export function groupNormGradient(inputs: SumInputs & { sums: Tensor }, attrs: Attrs): Tensor {
  return apply(groupNormGradientOp, { ...inputs, residual: null }, attrs);
}

export const groupNormGradientOp: Op<Attrs, SumInputs & { sums: Tensor; residual: Tensor | null }> = {
  name: 'groupNormGradient',

  infer({ x }) {
    return { shape: x.shape, dtype: 'f32' };
  },

  lower({ sums, ...inputs }, output, attrs, to) {
    const { shape, loads, sameGroup, params } = sizes(inputs, attrs, RUN[to.facts.schedule] / 4);
    const { images, channels, groups, runs } = shape;
    const means = to.scratch('means of groups', [images, groups, 2]);
    to.dispatch({
      shader: MEANS,
      operands: { sums, gamma: inputs.gamma, means },
      params: { count: images * groups, groups, per_group: channels / groups, pixels: params.pixels },
      threads: images * groups,
    });
    const threads = (images * runs * channels) / loads;
    to.dispatch({
      shader: applyShader(loads, sameGroup, inputs.x.dtype, attrs.activation, inputs.residual !== null),
      operands: { ...inputs, means, y: output },
      params: { ...params, count: threads },
      threads,
    });
  },
};

function sizes({ x, moments }: OperandsOf<SumInputs>, { eps }: Attrs, run: number) {
  const [images, groups] = moments.shape;
  const channels = x.shape[x.shape.length - 1];
  const pixels = sizeOf(x.shape) / images / channels;
  const perRun = Math.ceil(pixels / Math.ceil(pixels / run));
  const runs = Math.ceil(pixels / perRun);
  const loads: 1 | 4 = channels % 4 === 0 ? 4 : 1;
  return {
    shape: { images, groups, channels, runs },
    loads,
    sameGroup: loads === 1 || (channels / groups) % 4 === 0,
    params: { columns: channels / loads, groups, per_group: channels / groups, pixels, runs, per_run: perRun, eps },
  };
}

const PARAMS = {
  count: 'u32',
  columns: 'u32', // channels, in loads
  groups: 'u32',
  per_group: 'u32',
  pixels: 'u32',
  runs: 'u32',
  per_run: 'u32',
  eps: 'f32',
} as const;

const MEANS = shader({
  name: 'groupNormGradient means',
  bindings: {
    sums: { dtype: 'f32', width: 1 },
    gamma: { dtype: 'f32', width: 1 },
    means: { dtype: 'f32', width: 1, write: true },
  },
  params: { count: 'u32', groups: 'u32', per_group: 'u32', pixels: 'u32' },
  workgroup: 64,
  code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let channels = p.groups * p.per_group;
  let first = (id % p.groups) * p.per_group;
  let at = 2u * (id / p.groups) * channels;
  var total = vec2<f32>(0.0);
  for (var c = first; c < first + p.per_group; c++) { total += gamma_load(c) * vec2<f32>(sums_load(at + c), sums_load(at + channels + c)); }
  let count = f32(p.per_group * p.pixels);
  means_store(2u * id, total.x / count);
  means_store(2u * id + 1u, total.y / count);
}`,
});

const bindings = (loads: 1 | 4, x: DType) =>
  ({
    g: { dtype: 'f32', width: loads },
    x: { dtype: x, width: loads },
    moments: { dtype: 'f32', width: 1 },
    gamma: { dtype: 'f32', width: loads },
    beta: { dtype: 'f32', width: loads },
  }) as const;

/** WGSL of `derivative(g, n, factor, shift)`: h. */
function derivativeWgsl(type: 'f32' | 'vec4<f32>', activation: Activation): string {
  const sigmoid = (k: string) => `let s = sigmoid(${k}u); return g * s * (${type}(1.0) + ${k}u * (${type}(1.0) - s));`;
  const body = { none: 'return g;', silu: sigmoid(''), quickGelu: sigmoid('1.702 * '), gelu: 'return g * gelu_slope(u);' }[activation];
  return `${activation === 'none' ? '' : `${activationWgsl(type)}\n${slopeWgsl(type)}`}
fn derivative(g: ${type}, n: ${type}, factor: ${type}, shift: ${type}) -> ${type} { let u = n * factor + shift; ${body} }`;
}

/** WGSL of what belongs to a thread's channels: which ones, of which pixels, and `name` of their groups as vectors `name0` and `name1`. */
function place(loads: 1 | 4, sameGroup: boolean, names: readonly string[]): string {
  const type = loads === 4 ? 'vec4<f32>' : 'f32';
  const of = (name: string, i: number) =>
    sameGroup
      ? `${type}(${name}_load(2u * slot0 + ${i}u))`
      : `vec4<f32>(${[0, 1, 2, 3].map((lane) => `${name}_load(2u * slot${lane} + ${i}u)`).join(', ')})`;
  return `
  let c = id % p.columns;
  let run_number = (id / p.columns) % p.runs;
  let image = id / (p.columns * p.runs);
  ${[0, 1, 2, 3]
    .slice(0, sameGroup ? 1 : 4)
    .map((lane) => `let slot${lane} = image * p.groups + (c * ${loads}u + ${lane}u) / p.per_group;`)
    .join('\n  ')}
  ${names.flatMap((name) => [0, 1].map((i) => `let ${name}${i} = ${of(name, i)};`)).join('\n  ')}
  let scale = ${type}(1.0) / sqrt(moments1 + p.eps);
  let factor = gamma_load(c);
  let shift = beta_load(c);
  let count = min(p.per_run, p.pixels - run_number * p.per_run);
  let first = (image * p.pixels + run_number * p.per_run) * p.columns + c;`;
}

const TITLE = (loads: 1 | 4, sameGroup: boolean, x: DType, activation: Activation) =>
  `${x} x${loads}${sameGroup ? '' : ' across groups'}${activation === 'none' ? '' : ` ${activation}`}`;

/** A thread has its channels of a run of pixels. */
function sumsShader(loads: 1 | 4, sameGroup: boolean, x: DType, activation: Activation) {
  const type = elementType({ dtype: 'f32', width: loads }) as 'f32' | 'vec4<f32>';
  return shader({
    name: `groupNormSums ${TITLE(loads, sameGroup, x, activation)}`,
    bindings: { ...bindings(loads, x), y: { dtype: 'f32', width: loads, write: true } },
    params: PARAMS,
    workgroup: 64,
    code: `
${derivativeWgsl(type, activation)}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  ${place(loads, sameGroup, ['moments'])}
  var sum = ${type}(0.0);
  var product = ${type}(0.0);
  ${loopBelow(
    'pixel',
    'count',
    `let i = first + pixel * p.columns;
    let n = (x_load(i) - moments0) * scale;
    let h = derivative(g_load(i), n, factor, shift);
    sum += h;
    product += h * n;`,
  )}
  let at = 2u * (image * p.runs + run_number) * p.columns + c;
  y_store(at, sum);
  y_store(at + p.columns, product);
}`,
  });
}

function applyShader(loads: 1 | 4, sameGroup: boolean, x: DType, activation: Activation, added: boolean) {
  const type = elementType({ dtype: 'f32', width: loads }) as 'f32' | 'vec4<f32>';
  return shader({
    name: `groupNormGradient ${TITLE(loads, sameGroup, x, activation)}${added ? ' + residual' : ''}`,
    bindings: {
      ...bindings(loads, x),
      means: { dtype: 'f32', width: 1 },
      ...when(added, { residual: { dtype: 'f32', width: loads } } as const),
      y: { dtype: 'f32', width: loads, write: true },
    },
    params: PARAMS,
    workgroup: 64,
    code: `
${derivativeWgsl(type, activation)}
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  ${place(loads, sameGroup, ['moments', 'means'])}
  ${loopBelow(
    'pixel',
    'count',
    `let i = first + pixel * p.columns;
    let n = (x_load(i) - moments0) * scale;
    y_store(i, scale * (factor * derivative(g_load(i), n, factor, shift) - means0 - n * means1)${added ? ' + residual_load(i)' : ''});`,
  )}
}`,
  });
}
