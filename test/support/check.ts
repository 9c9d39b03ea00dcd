/** Runs a graph on the shared device, in every schedule that changes its kernels, and compares it with the f64 reference. */
import * as assert from 'uvu/assert';
import type { Tensor } from '../../core/tensor.ts';
import { evaluate } from '../../gpu/program.ts';
import { plan } from '../../kernels/fusion.ts';
import { type Accuracy, assertClose } from '../../verify/accuracy.ts';
import type { Values } from '../../verify/sample.ts';
import { testDevice, testDevices } from './device.ts';

/** `what` names the kernel, then after a comma the case. */
export async function check(what: string, actual: Tensor, expected: Values, accuracy: Accuracy = {}): Promise<void> {
  assert.equal([...actual.shape], [...expected.shape], `${what}: shape`);
  const done = new Set<string>();
  for (const device of await testDevices()) {
    const kernels = plan({ actual }, device.facts, device.gpu.limits).dispatches.map(({ shader }) => shader.name);
    if (done.has(kernels.join())) continue;
    done.add(kernels.join());
    assertClose(`${what}, ${device.facts.schedule}`, await evaluate(device, actual), expected, accuracy);
  }
}

/** As `check`, but every value must be exactly the reference's: for kernels that only move data. */
export async function checkExact(what: string, actual: Tensor, expected: Values): Promise<void> {
  assert.equal([...actual.shape], [...expected.shape], `${what}: shape`);
  const values = await evaluate(await testDevice(), actual);
  assert.is(values.length, expected.data.length, `${what}: size`);
  const wrong = expected.data.findIndex((value, i) => value !== values[i]);
  if (wrong >= 0) throw new Error(`${what}: element ${wrong} is ${values[wrong]}, expected ${expected.data[wrong]}`);
}
