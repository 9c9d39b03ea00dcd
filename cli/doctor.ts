/**
 * `doctor`: says which adapter would compute here, whether it truly computes, and what to type when it does not.
 * An adapter that answers but does nothing is worse than none, so one dispatch with a known result decides.
 */
import { arch, cpus, release } from 'node:os';
import { DeviceError, type Facts, UserError } from '../core/errors.ts';
import { openDevice, TOLD_LIMITS } from '../gpu/device.ts';
import { host } from '../host/node.ts';
import { driverByHand, notedDriver } from '../host/node-driver.ts';
import { squares } from '../host/smoke.ts';
import { lockedGpus, mend, osRelease } from './driver-help.ts';

const FEATURES = ['shader-f16', 'subgroups', 'timestamp-query'] as const;
/** Squares up to 4095 are exact in f32. */
const SMOKE_COUNT = 4096;

/** The program that runs this one. */
export const RUNTIME = `${host.name === 'bun' ? 'Bun' : 'Node'} ${process.versions.bun ?? process.versions.node}`;

export interface Diagnosis {
  /** True if the adapter computed the right numbers. */
  ok: boolean;
  system: { os: string; kernel: string; arch: string; cores: number; runtime: string };
  /** Where the driver comes from. */
  driver: string;
  adapter?: {
    vendor: string;
    architecture: string;
    device: string;
    description: string;
    /** True where the processor computes in place of a GPU. */
    software: boolean;
    /** Smallest and largest subgroup, in lanes; 0 where unknown. */
    subgroupSizes: [number, number];
    /** Bytes of GPU memory that may be used where nobody says how many, and where the number comes from. */
    memory: { bytes: number; why: string };
    features: Record<(typeof FEATURES)[number], boolean>;
    /** Bytes or counts, as WebGPU defines each. */
    limits: Record<(typeof TOLD_LIMITS)[number], number>;
  };
  /** Wall time of the known dispatch, compilation included. */
  smokeMs?: number;
  problem?: string;
  /** What to type, or where to look. */
  mend?: string;
  /** Works, but could be better. */
  hint?: string;
}

function driverSource(): string {
  const byHand = driverByHand();
  if (byHand.length > 0) return byHand.join(' ');
  const noted = Object.values(notedDriver());
  return noted.length > 0 ? `unpacked by set-up: ${noted.join(' ')}` : "the system's own";
}

/** Tries this machine's adapter. Never throws for what is wrong with it: that is in `problem`. */
export async function diagnose(): Promise<Diagnosis> {
  const diagnosis: Diagnosis = {
    ok: false,
    system: {
      os: osRelease().name,
      kernel: release(),
      arch: arch(),
      cores: cpus().length,
      runtime: RUNTIME,
    },
    driver: driverSource(),
  };
  try {
    const device = await openDevice({ gpu: await host.gpu(), settle: host.settle, machine: host.machine(), debug: host.debug?.() });
    const { vendor, architecture, device: name, description, software, subgroupSizes } = device.facts;
    diagnosis.adapter = {
      vendor,
      architecture,
      device: name,
      description,
      software,
      subgroupSizes,
      memory: { bytes: device.card.bytes, why: device.card.why },
      features: Object.fromEntries(FEATURES.map((feature) => [feature, device.facts.features.has(feature)])) as Record<
        (typeof FEATURES)[number],
        boolean
      >,
      limits: Object.fromEntries(TOLD_LIMITS.map((limit) => [limit, device.gpu.limits[limit]])) as Record<
        (typeof TOLD_LIMITS)[number],
        number
      >,
    };
    const start = performance.now();
    const result = await squares(device.gpu, SMOKE_COUNT, host.settle);
    diagnosis.smokeMs = Math.round(performance.now() - start);
    device.check();
    device.close();
    const wrong = result.findIndex((value, i) => value !== i * i);
    if (wrong >= 0) {
      const nothing = result.every((value) => value === -1) ? ': the adapter takes commands and computes nothing' : '';
      throw new DeviceError(`The adapter answered ${result[wrong]} for ${wrong} squared${nothing}.`);
    }
    diagnosis.ok = true;
    const locked = software ? lockedGpus() : [];
    if (locked.length > 0) {
      diagnosis.hint = `A GPU is present but locked (${locked.join(', ')}): sudo usermod -aG render,video $USER, then log in again.`;
    }
  } catch (error) {
    if (error instanceof UserError) throw error; // what a person gave
    diagnosis.problem = (error as Error).message;
    diagnosis.mend = (error as Facts).code === 'no-webgpu-package' ? 'npm install webgpu' : mend();
  }
  return diagnosis;
}

function amount(limit: string, value: number): string {
  if (!limit.endsWith('Size') || value < 1024) return String(value);
  return `${value} (${value >= 2 ** 20 ? `${Math.round(value / 2 ** 20)} MiB` : `${Math.round(value / 1024)} KiB`})`;
}

function report({ ok, system, driver, adapter, smokeMs, problem, mend, hint }: Diagnosis): string {
  const lines = [
    `system       ${system.os}, kernel ${system.kernel}, ${system.arch}, ${system.cores} cores`,
    `runtime      ${system.runtime}`,
    `driver       ${driver}`,
  ];
  if (adapter) {
    lines.push(
      `adapter      ${adapter.description || adapter.device || adapter.vendor}`,
      `             vendor ${adapter.vendor || '?'}, architecture ${adapter.architecture || '?'}, device ${adapter.device || '?'}`,
      `kind         ${adapter.software ? 'software: the processor computes, slowly' : 'GPU'}`,
      `subgroups    ${adapter.subgroupSizes[0] ? `${adapter.subgroupSizes.join(' to ')} lanes` : 'size unknown'}`,
      `memory       about ${(adapter.memory.bytes / 1e9).toFixed(1)} GB may be used: ${adapter.memory.why}`,
      ...FEATURES.map((feature, i) => `${i === 0 ? 'features' : '        '}     ${feature}: ${adapter.features[feature] ? 'yes' : 'no'}`),
      ...TOLD_LIMITS.map((limit, i) => `${i === 0 ? 'limits' : '      '}       ${limit}: ${amount(limit, adapter.limits[limit])}`),
    );
  }
  if (ok) lines.push(`smoke test   ${SMOKE_COUNT} squares computed and right, ${smokeMs} ms`);
  if (problem) lines.push('', `PROBLEM      ${problem}`, `TO MEND      ${mend}`);
  if (hint) lines.push('', `HINT         ${hint}`);
  return lines.join('\n');
}

/** Prints the diagnosis, as one JSON object with `--json`. Gives the exit code: 0 if the adapter computes, 3 if not. */
export async function doctor(args: string[]): Promise<number> {
  const diagnosis = await diagnose();
  console.log(args.includes('--json') ? JSON.stringify(diagnosis, null, 2) : report(diagnosis));
  return diagnosis.ok ? 0 : 3;
}
