/**
 * An operation of one's own: its WGSL, its gradient rule, and a check of both in f64. Softplus, y = log(1 + exp(x)).
 * Run it with: npx tsx examples/own-kernel.ts
 */
import {
  apply,
  compile,
  gradient,
  input,
  mul,
  type Op,
  openDevice,
  shader,
  sigmoid,
  sizeOf,
  sum,
  type Tensor,
} from 'supir-webgpu/framework';
import { host } from 'supir-webgpu/host/node';

const softplusShader = shader({
  name: 'softplus',
  bindings: { x: { dtype: 'f32', width: 1 }, y: { dtype: 'f32', width: 1, write: true } },
  params: { count: 'u32' },
  workgroup: 64,
  // max(x, 0) + log(1 + exp(-|x|)) does not overflow.
  code: `
fn run(id: u32, group: u32, local: u32) {
  if (id >= p.count) { return; }
  let x = x_load(id);
  y_store(id, max(x, 0.0) + log(1.0 + exp(-abs(x))));
}`,
});

const softplusOp: Op<null, { x: Tensor }> = {
  name: 'softplus',
  infer: ({ x }) => ({ shape: x.shape, dtype: 'f32' }),
  lower({ x }, y, _, to) {
    const count = sizeOf(y.shape);
    to.dispatch({ shader: softplusShader, operands: { x, y }, params: { count }, threads: count });
  },
  // The derivative is the sigmoid; rules are made of other operations, so they may be differentiated again.
  gradient: ({ source: { inputs } }, upstream) => ({ x: mul(upstream, sigmoid(inputs.x)) }),
};

/** log(1 + exp(x)), of x's shape. */
const softplus = (x: Tensor): Tensor => apply(softplusOp, { x }, null);

/** The largest differences to f64, of the values and of the derivatives of their sum. */
export async function checkSoftplus(): Promise<{ values: number; derivatives: number }> {
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
  const x = input('x', [3, 37]);
  const y = softplus(x);
  const [dx] = gradient(sum(y, { axis: [0, 1] }), [x]);
  const program = await compile(device, { y, dx });
  const given = Float32Array.from({ length: x.size }, (_, i) => (i - 55) / 5);
  const result = await program.run({ x: given });
  program.dispose();
  device.close();
  const worst = (found: Float32Array, expected: (x: number) => number) =>
    found.reduce((most, value, i) => Math.max(most, Math.abs(value - expected(given[i]))), 0);
  return {
    values: worst(result.y, (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))),
    derivatives: worst(result.dx, (x) => 1 / (1 + Math.exp(-x))),
  };
}

const { values, derivatives } = await checkSoftplus();
console.log(`softplus: values differ from f64 by ${values.toExponential(1)} at most, derivatives by ${derivatives.toExponential(1)}`);
if (!(values < 1e-6 && derivatives < 1e-6)) throw new Error('softplus is wrong');
