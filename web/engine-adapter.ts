/** What the adapter offers, and how fast it is at the two operations that a restoration consists of. */

import type { Schedule } from '../core/adapter.ts';
import { DeviceError } from '../core/errors.ts';
import { TorchRandom } from '../core/random.ts';
import { constant } from '../core/tensor.ts';
import { type Device, openDevice, TOLD_LIMITS } from '../gpu/device.ts';
import { msOfWork, type Repeated, repeated } from '../gpu/timing.ts';
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

/** Repetitions of a row within a run; many where few take less than so many milliseconds. */
const HOW = { few: 2, many: 64, short: 10, runs: 3 };

/** Measures a matrix product, a convolution and attention at sizes of the demo model's UNet times four; each is compiled and run once before. */
export async function benchmark(device: Device): Promise<Benchmark> {
  const random = new TorchRandom(1);
  const weight = (...shape: number[]) => constant(random.randn(shape.reduce((a, b) => a * b)), shape);
  const [wide, window] = [weight(512, 128), weight(128, 3, 3, 128)];
  const tokens = [1, 1024, 128];
  const cases: [what: string, flops: number, work: Repeated][] = [
    ['matrix product, 1024 x 128 by 512', 2 * 1024 * 128 * 512, repeated(tokens, () => (x) => linear(x, wide))],
    [
      'convolution 3 x 3, 32 x 32 x 128',
      2 * 1024 * 128 * 128 * 9,
      repeated([1, 32, 32, 128], () => (x) => conv2d(x, window, null, { padding: 1 })),
    ],
    ['attention, 1024 tokens, 8 heads', 4 * 1024 * 1024 * 128, repeated(tokens, () => (x) => attention(x, x, x, 8))],
  ];
  const before = device.compileMs;
  const rows: Benchmark['rows'] = [];
  for (const [what, flops, work] of cases) {
    const ms = await msOfWork(device, work, HOW);
    rows.push({ what, gflops: flops / ms / 1e6, ms });
  }
  return { rows, compileMs: device.compileMs - before };
}
