/**
 * `npm run bench -- submits`: whether submits take what they may. An evaluation of UNet and control network in submits of bounded length and in a single
 * one, taking turns: how long submits took, what bounding them costs, and whether the results are the same bits. Synthetic weights. One submit more takes so
 * little that other work on the machine hides it: so there is a third run, cut much finer, that tells what a submit takes.
 */
import { openDevice } from '../gpu/device.ts';
import { compile } from '../gpu/program.ts';
import { host } from '../host/node.ts';
import { Supir } from '../models/supir.ts';
import { attachSynthetic } from './checkout.ts';
import { median } from './median.ts';
import { configOf, denoiserInputs } from './unet.ts';
import { type Worker, workClock } from './work-clock.ts';

export interface SubmitsOptions {
  config?: string;
  latent: number;
  rounds: number;
  /** Seconds that a submit may take. */
  budget: number;
}

export interface SubmitsResult {
  what: string;
  /** Seconds. */
  budget: number;
  /** Submits of an evaluation, as it is cut in the end; shorter ones than a sixteenth of the budget are timed together and not listed. */
  submits: number;
  /** Seconds of every timed submit, in order of length. */
  seconds: number[];
  /** Measured over planned seconds, medians of the rounds in order: what is learnt. */
  learnt: number[];
  /** Medians of an evaluation in milliseconds, in one submit and cut: by whoever computes, and by the clock on the wall. */
  worker: Worker;
  workMs: [whole: number, cut: number];
  wallMs: [whole: number, cut: number];
  /** What cutting adds to the evaluation beside it, by the first, median: 0.01 is 1 %. */
  added: number;
  /** Milliseconds, by the first of these, that a submit more takes: of an evaluation cut much finer beside one in one submit, median. */
  submitMs: number;
  sameBits: boolean;
}

/** So many times finer than the budget the third run is cut. */
const FINER = 32;
/** Where in the list of submits, shortest first, those stand that are told. */
const TOLD = [0, 0.1, 0.5, 0.9, 0.99, 1];
/** Ends of the histogram's bars, in budgets. */
const BARS = [0.125, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 4, Number.POSITIVE_INFINITY];

export async function benchSubmits({ config: folder, latent, rounds, budget }: SubmitsOptions): Promise<SubmitsResult> {
  const config = await configOf(folder);
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle, submitSeconds: budget });
  const { pace } = device;
  const supir = new Supir(config);
  attachSynthetic(supir.model, 'model.');
  const program = await compile(device, supir.denoiserGraph([1, latent, latent, config.unet.in_channels], config.text.context_length, 1));
  const inputs = denoiserInputs(config, latent);
  let submitted = 0;
  const { queue } = device.gpu;
  const submit = queue.submit.bind(queue);
  Object.defineProperty(device.gpu, 'queue', { value: queue });
  queue.submit = (commands) => {
    submitted++;
    return submit(commands);
  };
  const clock = workClock(device);
  const run = async (seconds: number) => {
    pace.seconds = seconds;
    submitted = 0;
    let eps = new Float32Array(0) as Float32Array;
    let wall = 0;
    const work = await clock.time(async () => {
      const begun = performance.now();
      ({ eps } = await program.run(inputs));
      wall = performance.now() - begun;
    });
    return { eps, wall, work, submits: submitted };
  };
  // Drivers compile in the first; the second is timed by submits, and the pace learns.
  for (let i = 0; i < 2; i++) await run(budget);

  const submits: number[][] = [];
  const ratios: number[] = [];
  const each: number[] = [];
  const times: Record<'wall' | 'work', [number, number][]> = { wall: [], work: [] };
  let sameBits = true;
  for (let round = 0; round < rounds; round++) {
    const whole = await run(Number.POSITIVE_INFINITY);
    const portions: [planned: number, measured: number][] = [];
    pace.onPortion = (planned, measured) => void portions.push([planned, measured]);
    const cut = await run(budget);
    pace.onPortion = null;
    const learn = pace.learn.bind(pace);
    pace.learn = () => {}; // short submits tell less of the speed
    const fine = await run(budget / FINER);
    pace.learn = learn;
    each.push((fine.work - whole.work) / (fine.submits - whole.submits));
    submits.push(portions.map(([, measured]) => measured));
    ratios.push(median(portions.map(([planned, measured]) => measured / planned)));
    for (const key of ['wall', 'work'] as const) times[key].push([whole[key], cut[key]]);
    const bits = new Uint32Array(cut.eps.buffer);
    sameBits &&= new Uint32Array(whole.eps.buffer).every((value, i) => value === bits[i]);
  }
  pace.seconds = budget;
  const work = program.plan.dispatches.map(({ flops, bytes, threads, shader }) => ({
    flops,
    bytes,
    groups: Math.ceil(threads / shader.workgroup),
  }));
  const medians = (pairs: [number, number][]): [number, number] => [median(pairs.map(([a]) => a)), median(pairs.map(([, b]) => b))];
  const result = {
    what: `${config.name}, UNet and control network, latent ${latent} x ${latent}, on ${device.facts.description || device.facts.device}`,
    budget,
    submits: pace.submits(work, device.gpu.limits.maxComputeWorkgroupsPerDimension).length,
    seconds: submits.flat().sort((a, b) => a - b),
    learnt: ratios,
    worker: clock.worker,
    workMs: medians(times.work),
    wallMs: medians(times.wall),
    added: median(times.work.map(([whole, cut]) => cut / whole - 1)),
    submitMs: median(each),
    sameBits,
  };
  program.dispose();
  supir.release(device);
  device.close();
  return result;
}

/** The figures as lines for a person. */
export function submitsTable(r: SubmitsResult): string {
  const { seconds, budget, workMs, wallMs } = r;
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const at = (share: number) => seconds[Math.round(share * (seconds.length - 1))];
  const bars = BARS.map((end, i) => {
    const begin = BARS[i - 1] ?? 0;
    const share = seconds.filter((each) => each > begin * budget && each <= end * budget).length / seconds.length;
    return `${`${begin} to ${end === Number.POSITIVE_INFINITY ? 'more' : end}`.padStart(14)} ${percent(share).padStart(7)}  ${'#'.repeat(Math.round(40 * share))}`;
  });
  return [
    r.what,
    `${r.submits} submits of at most ${budget} s; ${seconds.length} were timed`,
    `seconds: ${TOLD.map((share) => `${(at(share) ?? Number.NaN).toFixed(3)} (${100 * share} %)`).join(', ')}`,
    `above the budget: ${percent(seconds.filter((each) => each > budget).length / seconds.length)}; above twice the budget: ${percent(seconds.filter((each) => each > 2 * budget).length / seconds.length)}`,
    `measured over planned seconds, round by round: ${r.learnt.map((ratio) => ratio.toFixed(2)).join(', ')}`,
    `an evaluation: ${workMs[0].toFixed(0)} ms of ${r.worker} time in one submit and ${workMs[1].toFixed(0)} cut (${percent(r.added)} added, pair by pair); ${wallMs[0].toFixed(0)} and ${wallMs[1].toFixed(0)} ms by the clock`,
    `a submit more takes ${r.submitMs.toFixed(2)} ms of ${r.worker} time, so that ${r.submits} submits add ${percent((r.submitMs * r.submits) / workMs[0])} by this count`,
    `the same bits: ${r.sameBits ? 'yes' : 'NO'}`,
    '',
    '    of a budget   share',
    ...bars,
  ].join('\n');
}
