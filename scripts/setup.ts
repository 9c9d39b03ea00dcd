/**
 * `npm run setup`, which `npm test` and the demo run first: sees to it that a WebGPU adapter computes on this machine.
 * Where one does, that is all. Otherwise, as root on Debian and Ubuntu it installs Mesa's software driver; where it may not or that fails,
 * it unpacks SwiftShader from the npm package `@sparticuz/chromium` and notes it for host/node-driver.ts; and where that fails too, it says
 * what to type. Runs any number of times; exits 0 with an adapter, 3 without.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Diagnosis } from '../cli/doctor.ts';
import { BACKPORTS, installAdvice, installCommand, mend, osRelease } from '../cli/driver-help.ts';
import { cacheFolder, dawnFolder, driverByHand, driverNote, IGNORE_NOTE } from '../host/node-driver.ts';
import { unpackSwiftShader } from './chromium-pack.ts';

/** Asks the doctor, in a process of its own because Dawn loads the Vulkan loader once. */
function diagnose(environment: Record<string, string> = {}): Diagnosis {
  const script = fileURLToPath(new URL('./doctor.ts', import.meta.url));
  const child = spawnSync(process.execPath, ['--import', 'tsx', script, '--json'], {
    env: { ...process.env, ...environment },
    cwd: dirname(dirname(script)),
    encoding: 'utf8',
  });
  try {
    return JSON.parse(child.stdout);
  } catch {
    return { ok: false, problem: `The driver ended the process: ${child.stderr.trim() || child.signal}` } as Diagnosis;
  }
}

/** A driver of the distribution, where this user may install one. */
function installDriver(): boolean {
  const command = process.platform === 'linux' && process.getuid?.() === 0 ? installCommand(osRelease()) : null;
  if (!command) return false;
  console.log(`No WebGPU adapter here. Installing a software driver as root:\n  ${command}`);
  const hadBackports = existsSync(BACKPORTS);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const child = spawnSync('sh', ['-c', command], { env, encoding: 'utf8', maxBuffer: 2 ** 26 });
  if (child.status === 0) return true;
  if (!hadBackports) rmSync(BACKPORTS, { force: true });
  console.log(`That failed:\n${(child.stdout + child.stderr).trim().split('\n').slice(-8).join('\n')}`);
  return false;
}

/** Dawn looks for the Vulkan loader beside its own library before it asks the system. */
const loaderBesideDawn = join(dawnFolder, 'dist', `${process.platform}-${process.arch}`, 'libvulkan.so.1');

function forgetSwiftShader(): void {
  rmSync(driverNote, { force: true });
  rmSync(loaderBesideDawn, { force: true });
}

function noteSwiftShader(): Diagnosis {
  const folder = unpackSwiftShader();
  mkdirSync(cacheFolder, { recursive: true });
  writeFileSync(driverNote, JSON.stringify({ VK_DRIVER_FILES: join(folder, 'vk_swiftshader_icd.json') }));
  const diagnosis = diagnose();
  if (diagnosis.ok || existsSync(loaderBesideDawn)) return diagnosis;
  copyFileSync(join(folder, 'libvulkan.so.1'), loaderBesideDawn);
  return diagnose();
}

function ready({ adapter }: Diagnosis): never {
  console.log(`WebGPU adapter: ${adapter?.description || adapter?.device || adapter?.vendor}${adapter?.software ? ' (software)' : ''}`);
  process.exit(0);
}

function giveUp(problem: string): never {
  console.error(`${problem}\nTo mend it: ${mend(true)}`);
  process.exit(3);
}

let diagnosis = diagnose({ [IGNORE_NOTE]: '1' });
if (driverByHand().length > 0) diagnosis.ok ? ready(diagnosis) : giveUp(diagnosis.problem ?? 'No WebGPU adapter.');
if (!diagnosis.ok && installDriver()) diagnosis = diagnose({ [IGNORE_NOTE]: '1' });
if (diagnosis.ok) {
  forgetSwiftShader();
  ready(diagnosis);
}
try {
  diagnosis = noteSwiftShader();
} catch (error) {
  giveUp(`${diagnosis.problem}\nSwiftShader cannot take its place: ${(error as Error).message}`);
}
if (!diagnosis.ok) {
  forgetSwiftShader();
  giveUp(`${diagnosis.problem}\nSwiftShader did not work either.`);
}
console.log('No Vulkan driver of this system works; using SwiftShader, which is slow. For a better one:');
console.log(`  ${installAdvice()}`);
ready(diagnosis);
