/** What WebGPU leaves to the driver, found out on a device: how exact functions are, what becomes of numbers at the ends of f16, and clocks. */
import { fromF16 } from '../core/half.ts';
import { constant, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { Profile } from '../gpu/profiler.ts';
import { compile, evaluate } from '../gpu/program.ts';
import { div } from '../kernels/binary.ts';
import { linear } from '../kernels/linear.ts';
import { cast, exp, tanh } from '../kernels/unary.ts';

export interface Probes {
  /** Whether weights and results in f16 keep values below 6.1e-5, which f16 stores with fewer digits. */
  subnormalHalves: { read: boolean; written: boolean };
  /** Whether f16 results beyond 65504 become infinity, and not a number. */
  infiniteHalves: boolean;
  /** Largest error of functions, in units of the last place: exp over [-80, 80], tanh over [-9, 9], division. */
  ulps: { exp: number; tanh: number; division: number };
  /** Nanoseconds of which all times on the GPU are multiples; null without clocks. */
  timestampGrain: number | null;
}

export async function probe(device: Device): Promise<Probes> {
  // The smallest, an odd one, and the largest subnormal half, and their negatives.
  const bits = Uint16Array.of(0x0001, 0x0155, 0x03ff, 0x8001, 0x8155, 0x83ff, 0x0400, 0x3c00);
  const halves = constant(bits, [8]);
  const exact = Array.from(bits, fromF16);
  const read = await evaluate(device, cast(halves, 'f32'));
  const written = await evaluate(device, cast(constant(Float32Array.from(exact), [8]), 'f16'));
  const beyond = await evaluate(device, cast(constant(Float32Array.of(70000, -70000, 1e30, 65519, 1, 2, 3, 4), [8]), 'f16'));
  const keeps = (values: Float32Array) => exact.every((value, i) => value === values[i]);
  return {
    subnormalHalves: { read: keeps(read), written: keeps(written) },
    infiniteHalves:
      beyond[0] === Number.POSITIVE_INFINITY &&
      beyond[1] === Number.NEGATIVE_INFINITY &&
      beyond[2] === Number.POSITIVE_INFINITY &&
      beyond[3] === 65504,
    ulps: {
      exp: await ulpsOf(device, exp, Math.exp, -80, 80),
      tanh: await ulpsOf(device, tanh, Math.tanh, -9, 9),
      division: await divisionUlps(device),
    },
    timestampGrain: await grainOf(device),
  };
}

const COUNT = 4096;
const ulp = (value: number) => 2 ** Math.max(-149, Math.floor(Math.log2(Math.abs(value))) - 23);

async function ulpsOf(device: Device, f: (x: Tensor) => Tensor, exact: (x: number) => number, from: number, to: number): Promise<number> {
  const x = Float32Array.from({ length: COUNT }, (_, i) => from + ((i + 0.5) / COUNT) * (to - from));
  const values = await evaluate(device, f(constant(x, [COUNT])));
  return x.reduce((worst, at, i) => Math.max(worst, Math.abs(values[i] - exact(at)) / ulp(exact(at))), 0);
}

async function divisionUlps(device: Device): Promise<number> {
  const a = Float32Array.from({ length: COUNT }, (_, i) => 1 + Math.sin(i) * 0.9);
  const b = Float32Array.from({ length: COUNT }, (_, i) => 1.5 + Math.cos(3 * i));
  const values = await evaluate(device, div(constant(a, [COUNT]), constant(b, [COUNT])));
  return a.reduce((worst, above, i) => Math.max(worst, Math.abs(values[i] - above / b[i]) / ulp(above / b[i])), 0);
}

/** The greatest common divisor of all times of a chain of small matmuls. */
async function grainOf(device: Device): Promise<number | null> {
  if (!device.facts.features.has('timestamp-query')) return null;
  const weight = constant(new Float32Array(64 * 64).fill(0.01), [64, 64]);
  let y = constant(new Float32Array(64 * 64).fill(1), [64, 64]);
  for (let i = 0; i < 24; i++) y = linear(y, weight);
  const program = await compile(device, { y });
  const before = device.profile;
  try {
    device.profile = new Profile();
    await program.run();
    const times = device.profile.dispatches.flatMap(({ begin, end }) => (begin === null || end === null ? [] : [begin, end]));
    const gcd = (a: bigint, b: bigint): bigint => (b === 0n ? a : gcd(b, a % b));
    const grain = Number(times.reduce((common, time) => gcd(common, time - times[0]), 0n));
    return Math.abs(grain);
  } finally {
    device.profile = before;
    program.dispose();
  }
}
