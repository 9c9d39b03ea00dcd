/**
 * `npm run setup`, which `npm test` and the demo run first: sees to it that a WebGPU adapter computes on this machine.
 * Where one does, that is all. Otherwise, as root it installs the distribution's software driver, having said so and asked where somebody can be asked
 * (`--no-install` or SUPIR_INSTALL=no: it does not; `--undo` takes all of it away); where it may not or that fails,
 * it unpacks SwiftShader from the npm package `@sparticuz/chromium` and notes it for host/node-driver.ts; and where that fails too, it says
 * what to type. Runs any number of times; exits 0 with an adapter, 3 without.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { parseArgs } from 'node:util';
import type { Diagnosis } from '../cli/doctor.ts';
import { BACKPORTS, installAdvice, installation, mend, osRelease } from '../cli/driver-help.ts';
import { cacheFolder, dawnFolder, driverByHand, driverNote, IGNORE_NOTE } from '../host/node-driver.ts';
import { unpackSwiftShader } from './chromium-pack.ts';

/** Asks the doctor, in a process of its own because Dawn loads the Vulkan loader once. */
function diagnose(environment: Record<string, string> = {}): Diagnosis {
  const child = spawnSync(process.execPath, [join(dirname(process.argv[1]), 'start.mjs'), 'cli/main', 'doctor', '--json'], {
    env: { ...process.env, ...environment },
    encoding: 'utf8',
  });
  try {
    return JSON.parse(child.stdout);
  } catch {
    return { ok: false, problem: `The driver ended the process: ${child.stderr.trim() || child.signal}` } as Diagnosis;
  }
}

/** Set to `no`, or with `--no-install`, nothing is installed. */
const WANTED = 'SUPIR_INSTALL';

/** A driver of the distribution, where this user may install one and does not say no. */
async function installDriver(): Promise<boolean> {
  const found = process.platform === 'linux' && process.getuid?.() === 0 ? installation(osRelease()) : null;
  if (!found) return false;
  const { command, adds, undo } = found;
  console.log(`No WebGPU adapter here. As root, set-up can install a software driver:\n  ${command}`);
  if (adds) console.log(`It adds ${adds}.`);
  console.log('To undo it later: npm run setup -- --undo');
  if (values['no-install'] || process.env[WANTED] === 'no') {
    console.log('Nothing is installed, as you asked.');
    return false;
  }
  if (process.stdin.isTTY && process.stdout.isTTY) {
    if (!(await agrees('Install it? [Y/n] '))) return false;
  } else console.log(`Nobody can be asked here, so it is done now; ${WANTED}=no in the environment would say no.`);
  const hadBackports = existsSync(BACKPORTS);
  const child = sh(command);
  if (child.status === 0) {
    mkdirSync(cacheFolder, { recursive: true });
    writeFileSync(installedNote, JSON.stringify({ undo }));
    return true;
  }
  if (!hadBackports) rmSync(BACKPORTS, { force: true });
  console.log(`That failed:\n${(child.stdout + child.stderr).trim().split('\n').slice(-8).join('\n')}`);
  return false;
}

function sh(command: string) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return spawnSync('sh', ['-c', command], { env, encoding: 'utf8', maxBuffer: 2 ** 26 });
}

async function agrees(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question(question);
  terminal.close();
  return !/^\s*n/i.test(answer);
}

/** What was installed here, to be taken away again. */
const installedNote = join(cacheFolder, 'installed.json');

/** Takes away what set-up unpacked, and as root what it installed. */
function undo(): never {
  rmSync(loaderBesideDawn, { force: true });
  const note = existsSync(installedNote) ? (JSON.parse(readFileSync(installedNote, 'utf8')) as { undo: string }) : null;
  const known = note?.undo ?? (existsSync(BACKPORTS) ? installation(osRelease())?.undo : undefined);
  const mayUndo = process.getuid?.() === 0;
  if (known && mayUndo) {
    console.log(`Taking away the driver that was installed:\n  ${known}`);
    const { status, stdout, stderr } = sh(known);
    if (status !== 0) console.error(`That failed:\n${(stdout + stderr).trim().split('\n').slice(-8).join('\n')}`);
    if (status !== 0) process.exit(1);
  } else if (known) console.log(`A driver was installed by root, who may take it away:\n  ${known}`);
  rmSync(cacheFolder, { recursive: true, force: true });
  console.log('What set-up unpacked is removed.');
  process.exit(0);
}

/** Dawn looks for the Vulkan loader beside its own library before it asks the system. */
const loaderBesideDawn = join(dawnFolder ?? cacheFolder, 'dist', `${process.platform}-${process.arch}`, 'libvulkan.so.1');

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

const { values } = parseArgs({
  options: { 'no-install': { type: 'boolean', default: false }, undo: { type: 'boolean', default: false } },
});
if (values.undo) undo();
if (!dawnFolder) giveUp('The package webgpu, which computes here, is not installed: run `npm install webgpu`.');
let diagnosis = diagnose({ [IGNORE_NOTE]: '1' });
if (driverByHand().length > 0) diagnosis.ok ? ready(diagnosis) : giveUp(diagnosis.problem ?? 'No WebGPU adapter.');
if (!diagnosis.ok && (await installDriver())) diagnosis = diagnose({ [IGNORE_NOTE]: '1' });
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
