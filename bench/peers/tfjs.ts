/** TensorFlow.js with its WebGPU backend. */
import { EPS, GROUPS } from '../cases.ts';
import type { Contender, Runner } from '../contender.ts';

// biome-ignore lint/suspicious/noExplicitAny: the peers are not installed where types are checked
type Tensor = any;

export async function tfjs(): Promise<Contender> {
  const tf = await import('@tensorflow/tfjs-core' as string);
  await import('@tensorflow/tfjs-backend-webgpu' as string);
  await tf.setBackend('webgpu');
  await tf.ready();
  const run = (inputs: Tensor[], body: (...inputs: Tensor[]) => Tensor): Runner => {
    const read = async (ending: (y: Tensor) => Tensor) => {
      const y = tf.tidy(() => ending(body(...inputs)));
      const data: Float32Array = await y.data();
      y.dispose();
      return data;
    };
    return { run: () => read((y) => tf.slice(tf.reshape(y, [-1]), [0], [4])), result: () => read((y) => y) };
  };
  const norm = (x: Tensor, axes: number[], gamma: Tensor, beta: Tensor) => {
    const { mean, variance } = tf.moments(x, axes, true);
    return tf.add(tf.mul(tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, EPS))), gamma), beta);
  };
  return {
    name: `tfjs-webgpu ${tf.version_core}`,
    async prepare({ kind, size, inputs }) {
      const of = (name: string, ...shape: number[]) => tf.tensor(inputs[name], shape);
      if (kind === 'matmul') return run([of('x', size[0], size[1]), of('w', size[2], size[1])], (x, w) => tf.matMul(x, w, false, true));
      if (kind === 'conv2d') {
        const w = tf.transpose(of('w', size[2], 3, 3, size[1]), [1, 2, 3, 0]);
        return run([of('x', 1, size[0], size[0], size[1]), w], (x, filter) => tf.conv2d(x, filter, 1, 'same'));
      }
      if (kind === 'attention') {
        const [queries, keys, heads, width] = size;
        const operands = [of('q', queries, heads, width), of('k', keys, heads, width), of('v', keys, heads, width)];
        return run(operands, (q, k, v) => {
          const byHead = (x: Tensor) => tf.transpose(x, [1, 0, 2]);
          const scores = tf.mul(tf.matMul(byHead(q), byHead(k), false, true), width ** -0.5);
          return tf.transpose(tf.matMul(tf.softmax(scores), byHead(v)), [1, 0, 2]);
        });
      }
      const [rows, channels] = size;
      if (kind === 'geglu') {
        return run([of('x', rows, 2 * channels)], (x) => {
          const [value, gate] = tf.split(x, 2, 1);
          return tf.mul(value, tf.mul(tf.mul(gate, 0.5), tf.add(tf.erf(tf.mul(gate, Math.SQRT1_2)), 1)));
        });
      }
      const affine = [of('gamma', channels), of('beta', channels)];
      if (kind === 'layerNorm') return run([of('x', rows, channels), ...affine], (x, gamma, beta) => norm(x, [1], gamma, beta));
      const grouped = affine.map((each) => tf.reshape(each, [1, GROUPS, channels / GROUPS]));
      return run([of('x', rows, GROUPS, channels / GROUPS), ...grouped], (x, gamma, beta) => {
        const y = norm(x, [0, 2], gamma, beta);
        return tf.mul(y, tf.sigmoid(y));
      });
    },
  };
}
