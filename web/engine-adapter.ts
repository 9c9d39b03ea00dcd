/** What the adapter offers, and how fast it is at the two operations that a restoration consists of. */

import type { Schedule } from '../core/adapter.ts';
import { DeviceError } from '../core/errors.ts';
import { TorchRandom } from '../core/random.ts';
import { constant, input, type Tensor } from '../core/tensor.ts';
import { type Device, openDevice, TOLD_LIMITS } from '../gpu/device.ts';
import { compile } from '../gpu/program.ts';
import type { Host } from '../host/host.ts';
import { squares } from '../host/smoke.ts';
import { attention } from '../kernels/attention.ts';
import { conv2d } from '../kernels/conv2d.ts';
import { linear } from '../kernels/linear.ts';
import type { AdapterChoice, AdapterReport, Benchmark } from './protocol.ts';

/** Opens the preferred adapter, lets it compute squares, and tells what it is. Throws DeviceError where there is none or it computes nothing. */
export async function adapterReport(host: Host, choice: AdapterChoice): Promise<AdapterReport> {
  const device = await openDevice({
    gpu: await host.gpu(),
    settle: host.settle,
    machine: host.machine(),
    chooseMatrixUnit: host.chooseMatrixUnit,
    ...choice,
  });
  try {
    const wrong = (await squares(device.gpu, 4096, host.settle)).findIndex((value, i) => value !== i * i);
    if (wrong >= 0) throw new DeviceError(`The adapter answered wrongly: ${wrong} squared. Update the browser and the graphics driver.`);
    const { description, device: chip, vendor, architecture, software, features, subgroupSizes, schedule: chosen } = device.facts;
    return {
      name: description || chip || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed adapter',
      vendor,
      architecture,
      software,
      features: [...features].sort(),
      subgroupSizes,
      schedule: chosen,
      memory: { bytes: device.card.bytes, why: device.card.why },
      impossible: await impossible(host, choice),
      limits: Object.fromEntries(TOLD_LIMITS.map((limit) => [limit, device.gpu.limits[limit]])),
    };
  } finally {
    device.close();
  }
}

/** Why the adapter cannot follow a schedule that not every adapter can. */
async function impossible(host: Host, choice: AdapterChoice): Promise<AdapterReport['impossible']> {
  const why: AdapterReport['impossible'] = {};
  for (const schedule of ['subgroup', 'matrix'] satisfies Schedule[]) {
    try {
      const { settle, chooseMatrixUnit } = host;
      (await openDevice({ gpu: await host.gpu(), settle, chooseMatrixUnit, ...choice, schedule })).close();
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      why[schedule] = error.message;
    }
  }
  return why;
}

/** Milliseconds that a row is repeated for. */
const LONG_ENOUGH = 250;

/** Measures a matrix product, a convolution and attention at sizes of the demo model's UNet times four; each is compiled and run once before. */
export async function benchmark(device: Device): Promise<Benchmark> {
  const random = new TorchRandom(1);
  const weight = (...shape: number[]) => constant(random.randn(shape.reduce((a, b) => a * b)), shape);
  const tokens = () => input('x', [1, 1024, 128]);
  const cases: [string, number, Tensor][] = [
    ['matrix product, 1024 x 128 by 512', 2 * 1024 * 128 * 512, linear(tokens(), weight(512, 128))],
    [
      'convolution 3 x 3, 32 x 32 x 128',
      2 * 1024 * 128 * 128 * 9,
      conv2d(input('x', [1, 32, 32, 128]), weight(128, 3, 3, 128), null, { padding: 1 }),
    ],
    ['attention, 1024 tokens, 8 heads', 4 * 1024 * 1024 * 128, attention(tokens(), tokens(), tokens(), 8)],
  ];
  const rows: Benchmark['rows'] = [];
  let compileMs = 0;
  for (const [what, flops, tensor] of cases) {
    const x = random.randn(1024 * 128);
    const begun = performance.now();
    const program = await compile(device, { tensor });
    try {
      await program.run({ x });
      compileMs += performance.now() - begun;
      const start = performance.now();
      let runs = 0;
      while (runs === 0 || performance.now() - start < LONG_ENOUGH) {
        await program.run({ x });
        runs++;
      }
      const ms = (performance.now() - start) / runs;
      rows.push({ what, gflops: flops / ms / 1e6, ms });
    } finally {
      program.dispose();
    }
  }
  return { rows, compileMs };
}
