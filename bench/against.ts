/**
 * `npm run bench -- against <checkout> ops|unet|vae|train|demo|page`: another checkout of this project, built or not but with its node_modules, beside
 * this one. Whole processes take turns, each begins afresh, and medians over the processes are told. The cases are this checkout's; trainings and
 * restorations go by the command lines and pages of both, with the other's demo model. A command line is started as the checkout's own package.json says
 * (its script `supir`, without npm around it), and timed from its start to its end: clock time by this process, processor time of it and of every process of
 * Node that it starts, as tsx does, each from its own beginning to its own end. What a start compiles counts too; medians leave it out.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { median } from './median.ts';
import type { SideResult } from './side.ts';
import type { VaeResult } from './vae.ts';

export interface Comparison {
  name: string;
  /** Medians of the processes, in milliseconds of the CPU and by the clock. */
  before: { cpuMs: number; wallMs: number };
  after: { cpuMs: number; wallMs: number };
  /** After over before. */
  cpu: number;
  wall: number;
  /** Processes of each side. */
  rounds: number;
}

const HERE = resolve(import.meta.dirname, '..');

/** What a process of one side tells. */
type Measure = (checkout: string) => Promise<SideResult[]>;

/** Runs `what` on both sides in turns, `rounds` times; tells of every round through `report`. Throws where a process fails. */
export async function benchAgainst(
  checkout: string,
  what: string,
  pattern: string,
  rounds: number,
  report: (round: number) => void,
): Promise<Comparison[]> {
  const before = resolve(checkout);
  const measure = measures(before, pattern)[what];
  const sides = { before: new Map<string, SideResult[]>(), after: new Map<string, SideResult[]>() };
  for (let round = 0; round < rounds; round++) {
    // Who begins changes, so that a machine that grows slower or quicker favours nobody.
    const turn: ['before' | 'after', string][] = [
      ['before', before],
      ['after', HERE],
    ];
    for (const [side, folder] of round % 2 ? turn.reverse() : turn) {
      for (const result of await measure(folder)) sides[side].set(result.name, [...(sides[side].get(result.name) ?? []), result]);
    }
    report(round + 1);
  }
  const medians = (results: SideResult[]) => ({
    cpuMs: median(results.map(({ cpuMs }) => cpuMs)),
    wallMs: median(results.map(({ wallMs }) => wallMs)),
  });
  return [...sides.after].flatMap(([name, results]) => {
    const others = sides.before.get(name);
    if (!others) return []; // something that the other checkout could not do, which its process has said
    const [old, now] = [medians(others), medians(results)];
    return [{ name, before: old, after: now, cpu: now.cpuMs / old.cpuMs, wall: now.wallMs / old.wallMs, rounds: results.length }];
  });
}

function measures(before: string, pattern: string): Record<string, Measure> {
  const library =
    (what: string): Measure =>
    async (checkout) => {
      const { output } = await run(checkout, [...TYPESCRIPT, join(HERE, 'bench/side.ts'), checkout, what, pattern]);
      return output
        .trim()
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line));
    };
  /** Decoding in tiles that are exact, and in one piece; the second run of two, for drivers compile in the first. */
  const vae: Measure = async (checkout) => {
    const results: SideResult[] = [];
    for (const [tiling, latent] of [
      ['off', '32'],
      ['exact', '64'],
      ['exact', '128'],
    ]) {
      const name = `decoding ${Number(latent) * 8} x ${Number(latent) * 8}, tiles ${tiling}`;
      if (!name.includes(pattern)) continue;
      const args = ['vae', '--library', checkout, '--latent', latent, '--tiling', tiling, '--rounds', '2', '--json'];
      const { runs }: VaeResult = JSON.parse((await run(HERE, [...TYPESCRIPT, join(HERE, 'bench/main.ts'), ...args])).output);
      results.push({ name, cpuMs: runs[1].workMs, wallMs: runs[1].wallMs });
    }
    return results;
  };
  const model = join(before, 'demo');
  const photos = join(model, 'photos');
  const page: Measure = async (checkout) => [
    JSON.parse((await run(HERE, [...TYPESCRIPT, join(HERE, 'bench/page.ts'), checkout, before])).output),
  ];
  const supir = (checkout: string, folder: string, args: string[], env = {}) =>
    run(checkout, [...command(checkout), ...args.map((arg) => arg.replace('OUT', folder))], env);

  /** A restoration as a user waits for it. */
  const demo: Measure = async (checkout) => {
    const fixed = ['restore', join(photos, 'astronaut-noisy.jpg'), '-o', 'OUT/new.png', '--model', model, '--steps', '20'];
    return inTemporaryFolder(async (folder) => {
      const warm = await supir(checkout, folder, fixed);
      const cold = await supir(checkout, folder, [...fixed, '--overwrite'], { MESA_SHADER_CACHE_DISABLE: 'true' });
      return [
        { name: 'demo restoration, 20 steps, warm shader cache', ...warm.used },
        { name: 'demo restoration, 20 steps, cold shader cache', ...cold.used },
      ];
    });
  };

  /** A step of training, as the difference between a longer and a shorter run over their steps. */
  const train: Measure = async (checkout) => {
    const [few, many] = [4, 16];
    const trainings = {
      'training step, VAE at 64 pixels, batch 4': ['vae', '--size', '64', '--crops', '8'],
      'training step, LoRA at 32 x 32 latents, batch 4': ['lora', '--size', '128', '--caption', 'a photo', '--crops', '8'],
    };
    const results: SideResult[] = [];
    for (const [name, args] of Object.entries(trainings)) {
      if (!name.includes(pattern)) continue;
      const fixed = ['train', args[0], photos, ...args.slice(1), '--model', model, '--batch', '4', '--no-checkpointing'];
      const used = (steps: number) =>
        inTemporaryFolder(async (folder) => (await supir(checkout, folder, [...fixed, '-o', 'OUT', '--steps', String(steps)])).used);
      const [short, long] = [await used(few), await used(many)];
      results.push({ name, cpuMs: (long.cpuMs - short.cpuMs) / (many - few), wallMs: (long.wallMs - short.wallMs) / (many - few) });
    }
    return results;
  };
  return { ops: library('ops'), unet: library('unet'), vae, train, demo, page };
}

async function inTemporaryFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'supir-against-'));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What runs a program in TypeScript, by the checkout's own tsx. */
const TYPESCRIPT = [process.execPath, '--import', 'tsx'];

/** What a checkout's script `supir` runs: `tsx cli/main.ts` or `node scripts/start.mjs cli/main`. */
function command(checkout: string): string[] {
  const { scripts }: { scripts: { supir: string } } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8'));
  return scripts.supir.split(' ');
}

/** Runs a program in a checkout, as a script of its package.json would, and gives what it printed and the time that it took. */
async function run(checkout: string, [program, ...args]: string[], env: Record<string, string> = {}) {
  return inTemporaryFolder(async (folder) => {
    const begun = performance.now();
    const child = spawn(program, args, {
      cwd: checkout,
      env: {
        ...process.env,
        PATH: [join(checkout, 'node_modules/.bin'), process.env.PATH].join(delimiter),
        NODE_OPTIONS: [process.env.NODE_OPTIONS, '--import', pathToFileURL(join(HERE, 'bench/usage.mjs')).href].filter(Boolean).join(' '),
        USAGE_FOLDER: folder,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended = new Promise<[code: number | null, wallMs: number]>((done, fail) => {
      child.once('exit', (code) => done([code, performance.now() - begun]));
      child.once('error', fail);
    });
    const [output, errors, [code, wallMs]] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    if (code !== 0) throw new Error(`${[program, ...args].join(' ')} in ${checkout} ended with ${code}:\n${errors.slice(-2000)}`);
    const cpuMs = readdirSync(folder).reduce((sum, file) => sum + Number(readFileSync(join(folder, file), 'utf8')), 0);
    return { output, errors, used: { cpuMs, wallMs } };
  });
}

async function text(stream: NodeJS.ReadableStream): Promise<string> {
  let all = '';
  for await (const part of stream) all += part;
  return all;
}

/** The figures as lines for a person. */
export function againstTable(results: Comparison[]): string {
  const s = (ms: number) => (ms < 1000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(2)} s`).padStart(10);
  const rows = results.map(
    ({ name, before, after, cpu, wall }) =>
      `${name.padEnd(52)} ${s(before.cpuMs)} ${s(after.cpuMs)} ${cpu.toFixed(2).padStart(6)}  ${s(before.wallMs)} ${s(after.wallMs)} ${wall.toFixed(2).padStart(6)}`,
  );
  return [`${''.padEnd(52)} CPU before      after  ratio wall before      after  ratio`, ...rows].join('\n');
}
