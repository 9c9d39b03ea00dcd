/** Matrix units in Node: a probe in a process of its own, and halves on NVIDIA's GPUs. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type MatrixChoice, NO_MATRICES } from '../gpu/matrix-choice.ts';
import type { MatrixAdapter } from '../gpu/matrix-units.ts';

/** Dawn's switches of what is an experiment: subgroup matrices, and halves on NVIDIA's GPUs, which it withholds from drivers that it does not know good. */
export const EXPERIMENTS = 'allow_unsafe_apis';
export const NVIDIA_HALVES = 'vulkan_enable_f16_on_nvidia';

/** Whether Dawn may withhold halves. */
export const withholdsHalves = ({ info, features }: MatrixAdapter): boolean => /nvidia/i.test(info.vendor) && !features.has('shader-f16');

/** Milliseconds after which a probe counts as hanging: most of its time is the driver's compiling. */
const PATIENCE = 60_000;

/** Tries matrix units in a process of its own, whose Dawn has these flags; a process that does not end well tells so. */
export function probeApart(flags: readonly string[], patience = PATIENCE, program = beside('node-matrix-probe')): Promise<MatrixChoice> {
  if (!existsSync(program)) return Promise.resolve({ ...NO_MATRICES, why: 'the program that tries them is not beside this one' });
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...loaders(process.execArgv), program, JSON.stringify(flags)], {
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: patience,
      killSignal: 'SIGKILL',
    });
    let told = '';
    child.stdout.on('data', (text: Buffer) => {
      told += text;
    });
    const failed = (what: string) => resolve({ ...NO_MATRICES, why: `the process that tried them ${what}` });
    child.on('error', ({ message }) => failed(`did not start: ${message}`));
    child.on('close', (code, signal) => {
      if (signal === 'SIGKILL') failed(`had not ended after ${patience / 1000} s`);
      else if (code !== 0) failed(`ended with ${signal ?? `exit code ${code}`}`);
      else resolve(JSON.parse(told) as MatrixChoice);
    });
  });
}

const LOADER = /^(-r|--require|--import|--loader|--experimental-loader)$/;

/** Of Node's own arguments, those by which it reads TypeScript, and not the program that it runs. */
export function loaders(args: readonly string[]): string[] {
  return args.filter((arg, i) => LOADER.test(arg.split('=')[0]) || (LOADER.test(args[i - 1] ?? '') && !arg.startsWith('-')));
}

/** A file of this folder, as it is or compiled. */
function beside(name: string): string {
  return fileURLToPath(new URL(`./${name}${extname(import.meta.url)}`, import.meta.url));
}
