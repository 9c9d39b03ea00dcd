/**
 * The command line, run in this process with what it prints collected, which takes a fraction of the time; or as a person runs it, as a process of its
 * own, compiled; test/cli/without-optional.test.ts starts its sources.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import { runSupir } from '../../cli/supir.ts';

export interface Finished {
  /** Exit code, or the signal that ended the process. */
  code: number | NodeJS.Signals;
  stdout: string;
  /** Without what Dawn itself says about its limits. */
  stderr: string;
}

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

const { programs }: { programs(root: string): string | null } = await import(join(root, 'scripts', 'compiled.mjs'));

export interface RunOptions {
  /** Sees the standard error output so far, whenever it grows; returns a signal to send, once. */
  interrupt?: (stderr: string) => NodeJS.Signals | null;
}

/** The runs before: what is printed belongs to one at a time. */
let before: Promise<unknown> = Promise.resolve();

/** Runs `supir` with the arguments in this process, after those begun before; every path in them must be absolute. */
export function supir(args: string[]): Promise<Finished> {
  const run = before.then(() => collected(args));
  before = run.catch(() => undefined);
  return run;
}

async function collected(args: string[]): Promise<Finished> {
  const printed = { stdout: '', stderr: '' };
  const streams = (['stdout', 'stderr'] as const).map((name) => {
    const stream = process[name];
    const { write, isTTY } = stream;
    stream.isTTY = false;
    stream.write = ((text: string | Uint8Array, ...more: unknown[]) => {
      printed[name] += typeof text === 'string' ? text : new TextDecoder().decode(text);
      const written = more.find((each) => typeof each === 'function') as (() => void) | undefined;
      written?.();
      return true;
    }) as typeof write;
    return () => Object.assign(stream, { write, isTTY });
  });
  try {
    const code = await runSupir(args);
    return { code, ...printed };
  } finally {
    for (const restore of streams) restore();
  }
}

/** Milliseconds after which a run is ended, as one that hangs. */
const LIMIT = 300_000;

/** Starts `supir` as a process of its own, to do things to it. */
export function startSupir(args: string[], { interrupt }: RunOptions = {}): { child: ChildProcess; finished: Promise<Finished> } {
  const child = spawn(process.execPath, [join(programs(root)!, 'main.js'), ...args], {
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
