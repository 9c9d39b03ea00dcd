/**
 * The command line as a person runs it: a process of its own. It is bundled once, because to start it from TypeScript takes most of a second of the
 * processor each time; test/cli/without-optional.test.ts starts it from there.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import * as assert from 'uvu/assert';

export interface Finished {
  /** Exit code, or the signal that ended the process. */
  code: number | NodeJS.Signals;
  stdout: string;
  /** Without what Dawn itself says about its limits. */
  stderr: string;
}

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

let bundled: string | null = null;

/** The bundle, in a folder as deep as those of a built package. */
function program(): string {
  if (bundled) return bundled;
  const folder = join(root, 'out', `cli-${process.pid}`);
  const outfile = join(folder, 'main.js');
  buildSync({
    entryPoints: [join(root, 'cli', 'main.ts')],
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    outfile,
    logLevel: 'error',
  });
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  bundled = outfile;
  return outfile;
}

export interface RunOptions {
  /** Sees the standard error output so far, whenever it grows; returns a signal to send, once. */
  interrupt?: (stderr: string) => NodeJS.Signals | null;
}

/** Milliseconds after which a run is ended, as one that hangs. */
const LIMIT = 300_000;

/** Runs `supir` with the arguments; every path in them must be absolute. */
export function supir(args: string[], options: RunOptions = {}): Promise<Finished> {
  return startSupir(args, options).finished;
}

/** As `supir`, with the process itself, to do things to it. */
export function startSupir(args: string[], { interrupt }: RunOptions = {}): { child: ChildProcess; finished: Promise<Finished> } {
  const child = spawn(process.execPath, [program(), ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: LIMIT,
  });
  let [stdout, stderr, sent] = ['', '', false];
  child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
    const signal = sent ? null : (interrupt?.(stderr) ?? null);
    if (signal) sent = child.kill(signal);
  });
  const finished = new Promise<Finished>((done, fail) => {
    child.on('error', fail);
    child.on('close', (code, signal) =>
      done({ code: code ?? signal!, stdout, stderr: stderr.replace(/^Warning: max.*reduced.*\n/gm, '') }),
    );
  });
  return { child, finished };
}

/** Refused as bad input is: exit code 2, nothing on standard output, and one paragraph that matches `message`, without a stack. */
export function assertRefused({ code, stdout, stderr }: Finished, message: RegExp, what: string): void {
  assert.is(code, 2, `${what}: exit code ${code}, ${stderr}`);
  assert.is(stdout, '', `${what}: standard output`);
  assert.match(stderr, message, what);
  assert.not.match(stderr, /\n\s+at /, `${what}: a stack`);
  assert.is(stderr.trim().split('\n').length, 1, `${what}: one paragraph, not:\n${stderr}`);
}

/** Runs the cases two at a time, for a case is mostly starting up. */
export async function inPairs<T>(cases: readonly T[], run: (each: T) => Promise<void>): Promise<void> {
  const left = [...cases];
  const worker = async () => {
    for (let each = left.shift(); each !== undefined; each = left.shift()) await run(each);
  };
  await Promise.all([worker(), worker()]);
}
