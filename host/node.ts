/** Node, and Bun: WebGPU from Dawn's Node binding (npm `webgpu`), files from node:fs. */
import { readFileSync } from 'node:fs';
import { freemem, homedir, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Machine } from '../core/adapter.ts';
import { type DebugOptions, debugParts } from '../core/debug.ts';
import { DeviceError } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import { type MatrixChoice, rememberedChoice } from '../gpu/matrix-choice.ts';
import type { MatrixAdapter } from '../gpu/matrix-units.ts';
import { fileNotes } from './file-notes.ts';
import type { Host } from './host.ts';
import { flagsFor, type ListedAdapter, listAdapters } from './node-adapters.ts';
import { dawnFolder, useNotedDriver } from './node-driver.ts';
import { isReading, nodeFiles } from './node-files.ts';
import { EXPERIMENTS, NVIDIA_HALVES, probeApart, withholdsHalves } from './node-matrices.ts';
import { packageFile } from './node-packages.ts';
import { oldNode } from './node-version.ts';

/** Dawn lives as long as this object is referenced, so it is kept for the life of the process; with the flags that it was made with. */
let dawn: Promise<{ gpu: GPU; flags: string[] }> | undefined;

/** The adapter that a person chose: its number, or a part of its name. */
let chosen: string | undefined;

/** From the first use of the GPU on, that of several which is meant; see flagsFor. */
export function useGpu(which: string): void {
  chosen = which;
}

/** Dawn's toggles of its checks; see useUnchecked. */
const UNCHECKED = ['skip_validation', 'disable_robustness'];

let unchecked = false;

/**
 * From the first use of the GPU on, Dawn checks neither commands nor accesses to memory, which some GPUs compute a matmul a sixth to a third quicker
 * without. A fault of this program, or a driver's, that would be refused may then end the process, or the driver, or give wrong numbers.
 */
export function useUnchecked(): void {
  unchecked = true;
}

/** The adapters that there are. Throws DeviceError where Dawn does not load. */
export async function gpus(): Promise<ListedAdapter[]> {
  return listAdapters((await binding()).create);
}

async function gpu(): Promise<GPU> {
  dawn ??= makeDawn();
  return (await dawn).gpu;
}

async function makeDawn(): Promise<{ gpu: GPU; flags: string[] }> {
  const { create } = await binding();
  const which = chosen === undefined ? [] : flagsFor(chosen, await listAdapters(create));
  const made = (...experiments: string[]) => {
    const enabled = [...experiments, ...(unchecked ? UNCHECKED : [])];
    // Times that are multiples of 65,536 ns keep secrets of web pages; here they would only be coarse.
    const flags = [`enable-dawn-features=${enabled.join()}`, 'disable-dawn-features=timestamp_quantization', ...which];
    return { gpu: create(flags), flags };
  };
  // Experimental features are asked for one by one, by openDevice, where a probe found them good or a person chose what needs them.
  const usual = made(EXPERIMENTS);
  const adapter = await usual.gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter || !withholdsHalves(adapter)) return usual;
  const withHalves = made(EXPERIMENTS, NVIDIA_HALVES);
  const { unit, quicker } = await rememberedChoice(notes, adapter, () => probeApart(withHalves.flags));
  return quicker && unit?.input === 'f16' ? withHalves : usual;
}

async function chooseMatrixUnit(adapter: MatrixAdapter): Promise<MatrixChoice> {
  return rememberedChoice(notes, adapter, async () => probeApart((await dawn)?.flags ?? []));
}

async function binding(): Promise<typeof import('webgpu')> {
  const problem = oldNode();
  if (problem) throw new DeviceError(problem, { code: 'old-node' });
  useNotedDriver();
  try {
    return await import('webgpu');
  } catch (cause) {
    if (!dawnFolder)
      throw new DeviceError('The package webgpu, which computes here, is not installed.', { code: 'no-webgpu-package', cause });
    throw new DeviceError(
      `Dawn (the package webgpu) does not load on ${process.platform} ${process.arch}: ${shown((cause as Error).message, 400)}`,
      {
        code: 'no-dawn',
        cause,
      },
    );
  }
}

/**
 * Dawn polls for finished work in every turn of the event loop while a promise is pending, which burns a core; with a software adapter
 * that core is the GPU. So the thread sleeps between turns, at most a sixteenth of the time waited so far and 2 ms: timers, signals and
 * files are still served hundreds of times a second, and the answer is at most 6 % late. What comes at once is not slept through: systems wake a
 * thread some 0.1 ms after it asked to be, which is several times a whole round trip. Nor is it while weights are read, thousands of small ones one after the other.
 */
const AT_ONCE = 0.25;
let pending = 0;
let since = 0;
let sleeping = false;
const never = new Int32Array(new SharedArrayBuffer(4));

function sleepBetweenTurns(): void {
  sleeping = pending > 0;
  if (!sleeping) return;
  const waited = performance.now() - since;
  if (waited > AT_ONCE && !isReading()) Atomics.wait(never, 0, 0, Math.min(2, Math.max(0.05, waited / 16)));
  setImmediate(sleepBetweenTurns);
}

async function settle<T>(promise: Promise<T>): Promise<T> {
  pending++;
  since = performance.now();
  if (!sleeping) {
    sleeping = true;
    setImmediate(sleepBetweenTurns);
  }
  try {
    return await promise;
  } finally {
    pending--;
  }
}

/** What containers allow counts too, where the runtime knows it. */
const freeMemory = (): number => process.availableMemory?.() ?? freemem();

const SYSTEMS: Readonly<Record<string, Machine['system']>> = { win32: 'windows', darwin: 'mac', linux: 'linux', android: 'android' };

const machine = (): Machine => ({ system: SYSTEMS[process.platform] ?? null, memory: totalmem() });

/** Where this system's programs keep what can be made again; SUPIR_CACHE names another folder. */
function notesFolder(): string | null {
  const { env, platform } = process;
  const named = env.SUPIR_CACHE ?? (platform === 'win32' ? env.LOCALAPPDATA : env.XDG_CACHE_HOME);
  try {
    return join(named || join(homedir(), platform === 'darwin' ? 'Library/Caches' : '.cache'), 'supir-webgpu');
  } catch {
    return null; // a user without a home
  }
}

/** The binding with its version. */
function runtime(): string {
  try {
    const { version } = JSON.parse(readFileSync(join(dawnFolder!, 'package.json'), 'utf8')) as { version: string };
    return `webgpu ${version}`;
  } catch {
    return 'webgpu';
  }
}

/** SUPIR_DEBUG=graph,fused,plan,wgsl prints these of every program to the standard error output. */
function debug(): DebugOptions | null {
  const parts = debugParts(process.env.SUPIR_DEBUG);
  return parts && { parts, print: (text) => void process.stderr.write(`${text}\n\n`) };
}

const notes = fileNotes(nodeFiles, notesFolder(), runtime());

export const host: Host = {
  name: process.versions.bun ? 'bun' : 'node',
  gpu,
  freeMemory,
  machine,
  notes,
  chooseMatrixUnit,
  settle,
  debug,
  packageFile,
  ...nodeFiles,
};
