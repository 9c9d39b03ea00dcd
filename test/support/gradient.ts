/**
 * Gradients on the shared device, in every schedule, against central differences of the f64 reference, whose own error is of the order of 1e-9: no rule is
 * written down twice.
 */

import type { Tensor } from '../../core/tensor.ts';
import { compile } from '../../gpu/program.ts';
import { gradient } from '../../kernels/gradient.ts';
import { type Accuracy, assertClose } from '../../verify/accuracy.ts';
import { type Sample, sampler, type Values } from '../../verify/sample.ts';
import { testDevices } from './device.ts';

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
  const expected = inputs.map((_, i) => differences(inputs, i, (values) => dot(reference(...values).data, upstream.data)));
  const outputs = Object.fromEntries(derivatives.map((tensor, i) => [`d${i}`, tensor]));
  const done = new Set<string>();
  for (const device of await testDevices()) {
    const program = await compile(device, outputs);
    const kernels = program.plan.dispatches.map(({ shader }) => shader.name).join();
    try {
      if (done.has(kernels)) continue;
      done.add(kernels);
      const results = await program.run({});
      inputs.forEach(({ shape }, i) => {
        const name = `gradient of ${what}, input ${i}, ${device.facts.schedule}`;
        assertClose(name, results[`d${i}`], { shape, data: expected[i] }, accuracy[Math.min(i, accuracy.length - 1)]);
      });
    } finally {
      program.dispose();
    }
  }
}

const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i], 0);

/** The derivative of `loss` by every element of input i. */
function differences(inputs: Values[], i: number, loss: (values: Values[]) => number): Float64Array {
  const values = inputs.map(({ shape, data }) => ({ shape, data: data.slice() }));
  const at = values[i].data;
  return Float64Array.from(at, (x, j) => {
    at[j] = x + STEP;
    const above = loss(values);
    at[j] = x - STEP;
    const below = loss(values);
    at[j] = x;
    return (above - below) / (2 * STEP);
  });
}
