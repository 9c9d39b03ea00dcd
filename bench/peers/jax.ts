/** jax-js on WebGPU, jitted. */
import { EPS, GROUPS } from '../cases.ts';
import { type Contender, type Runner, turn } from '../contender.ts';

// biome-ignore lint/suspicious/noExplicitAny: the peers are not installed where types are checked
type Tensor = any;

export async function jax(): Promise<Contender> {
  const { init, defaultDevice, jit, lax, nn, numpy: np } = await import('@jax-js/jax' as string);
  await init('webgpu');
  defaultDevice('webgpu');
  const run = (inputs: Tensor[], body: (...inputs: Tensor[]) => Tensor): Runner => {
    const compiled = jit(body);
    const compute = () => compiled(...inputs.map((x) => x.ref));
    return {
      async run() {
        const y = compute();
        await y.blockUntilReady();
        y.dispose();
      },
      result: () => compute().data(),
    };
  };
  const norm = (x: Tensor, axis: number | number[], gamma: Tensor, beta: Tensor) => {
    const mean = np.mean(x.ref, axis, { keepdims: true });
    const centred = x.sub(mean);
    const variance = np.mean(centred.ref.mul(centred.ref), axis, { keepdims: true });
    return centred
      .div(np.sqrt(variance.add(EPS)))
      .mul(gamma)
      .add(beta);
  };
  return {
    name: 'jax-js',
    async prepare({ kind, size, inputs }) {
      const of = (name: string, ...shape: number[]) => np.array(inputs[name], { shape });
      if (kind === 'matmul') return run([of('x', size[0], size[1]), of('w', size[2], size[1])], (x, w) => np.matmul(x, np.transpose(w)));
      if (kind === 'conv2d') {
        const [s, c, o] = size;
        const x = np.array(turn(inputs.x, s * s, c), { shape: [1, c, s, s] });
        const w = np.transpose(of('w', o, 3, 3, c), [0, 3, 1, 2]);
        const first = run([x, w], (image, filter) => lax.convGeneralDilated(image, filter, [1, 1], 'SAME'));
        return { ...first, result: async () => turn(await first.result(), o, s * s) };
      }
      if (kind === 'attention') {
        const [queries, keys, heads, width] = size;
        const operands = [of('q', 1, queries, heads, width), of('k', 1, keys, heads, width), of('v', 1, keys, heads, width)];
        return run(operands, (q, k, v) => nn.dotProductAttention(q, k, v));
      }
      const [rows, channels] = size;
      if (kind === 'geglu') {
        return run([of('x', rows, 2, channels)], (x) => {
          const [value, gate] = np.split(x, 2, 1);
          return value.mul(nn.gelu(gate, { approximate: false }));
        });
      }
      const affine = [of('gamma', channels), of('beta', channels)];
      if (kind === 'layerNorm') return run([of('x', rows, channels), ...affine], (x, gamma, beta) => norm(x, 1, gamma, beta));
      const grouped = affine.map((each) => each.reshape([1, GROUPS, channels / GROUPS]));
      return run([of('x', rows, GROUPS, channels / GROUPS), ...grouped], (x, gamma, beta) => nn.silu(norm(x, [0, 2], gamma, beta)));
    },
  };
}
