/**
 * Gradients on the shared device against central differences of the f64 reference, whose own error is of the order of 1e-9: no rule is
 * written down twice.
 */
import { compile } from '../../core/program.ts';
import { constant, type Tensor } from '../../core/tensor.ts';
import { gradient } from '../../kernels/gradient.ts';
import { type Accuracy, assertClose } from './close.ts';
import { testDevice } from './device.ts';
import { type Sample, sampler, type Values } from './sample.ts';

const STEP = 1e-5;

/**
 * Compares the derivatives of sum(u f(inputs)), u random, by every input: `graph` on the device, `reference` in f64. An input's accuracy is
 * chosen by its position, the last one for all further.
 */
export async function checkGradient(
  what: string,
  inputs: Sample[],
  graph: (...inputs: Tensor[]) => Tensor,
  reference: (...inputs: Values[]) => Values,
  accuracy: Accuracy[] = [{}],
): Promise<void> {
  const y = graph(...inputs.map(({ tensor }) => tensor));
  const upstream = sampler(77)(y.shape);
  const derivatives = gradient(
    y,
    inputs.map(({ tensor }) => tensor),
    { upstream: upstream.tensor },
  );
  const program = await compile(await testDevice(), Object.fromEntries(derivatives.map((tensor, i) => [`d${i}`, tensor])));
  try {
    const results = await program.run({});
    inputs.forEach((input, i) => {
      const values = inputs.map(({ shape, data }) => ({ shape, data: data.slice() }));
      const at = values[i].data;
      const loss = () => {
        const { data } = reference(...values);
        return data.reduce((sum, value, j) => sum + value * upstream.data[j], 0);
      };
      const expected = Float64Array.from(at, (x, j) => {
        at[j] = x + STEP;
        const above = loss();
        at[j] = x - STEP;
        const below = loss();
        at[j] = x;
        return (above - below) / (2 * STEP);
      });
      const name = `gradient of ${what}, input ${i}`;
      assertClose(name, results[`d${i}`], { shape: input.shape, data: expected }, accuracy[Math.min(i, accuracy.length - 1)]);
    });
  } finally {
    program.dispose();
  }
}

/** A tensor of the sample's values, for graphs that fix an operand. */
export function fixed({ data, shape }: Values): Tensor {
  return constant(Float32Array.from(data), shape);
}
