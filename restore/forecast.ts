/**
 * What a restoration will take, before it begins: memory, reading, arithmetic and, on an adapter whose speed is known, time. Its programs are
 * planned as they will be and pass through a ledger of weights as on the device, so GPU memory is told to the byte; nothing is allocated or run.
 */

import { factsOf, UserError } from '../core/errors.ts';
import { WeightLedger } from '../core/placement.ts';
import type { Plan } from '../core/plan.ts';
import { sentence } from '../core/text.ts';
import type { CardMemory } from '../gpu/card-memory.ts';
import type { Device } from '../gpu/device.ts';
import type { Speeds } from './speed.ts';
import type { Framed, Kind, Method, Size, Stage, StagePlan } from './stage.ts';
import { framed } from './target-size.ts';

export interface StageForecast extends Pick<StagePlan, 'tiling' | 'weighed' | 'parts' | 'hostBytes'> {
  stage: string;
  /** The network that it runs. */
  graph: string;
  /** Runs of programs: tiles, texts, or evaluations of UNet and control network. */
  runs: number;
  /** Those of them that take over what an earlier one computed. */
  reusing: number;
  /** GPU memory at most, in bytes: of its programs beside weights, of its weights there, and of everything. */
  activations: number;
  weights: number;
  gpuBytes: number;
  /** Weights read from files: when the stage begins, again at every whole run, and in all. */
  loaded: number;
  streamed: number;
  read: number;
  gflop: number;
  /** Of a stage whose parts differ: the share of its work that is done after each. */
  ends?: readonly number[];
  /** Null without speeds. */
  seconds: number | null;
}

/** resident: every weight stays; component: those of the stage at work; streamed: those of some stage pass through at every run. */
export type ResidencyKind = 'resident' | 'component' | 'streamed';

export interface Forecast {
  /** Sizes in pixels: at which the networks work, and of the result. */
  working: Size;
  result: Size;
  /** GPU memory that may be used, in bytes; and where the number comes from. */
  budget: number;
  budgetFrom: 'given' | 'free memory' | 'estimate';
  residency: ResidencyKind;
  /** Sentences for a person: which residency and tiling were chosen, and why. */
  why: string[];
  peakGpuBytes: number;
  /** Of the process; with a software adapter GPU memory is among it. */
  peakHostBytes: number;
  /** Weights that are read in all, and in every sampling step. */
  readBytes: number;
  readPerStep: number;
  gflop: number;
  seconds: number | null;
  stages: StageForecast[];
}

export interface ForecastSettings {
  /** GPU memory that may be used, in bytes; undefined to choose. */
  memory?: number;
  /** Free memory of the machine in bytes, where it is known: software adapters compute in it. */
  freeMemory?: number | null;
  speeds?: Speeds | null;
  /** Is given every program's plan, in order of use. */
  planned?(plans: Plan[]): void;
}

/** The program itself: Node, its code and Dawn, measured with the demo model. */
const PROCESS_BYTES = 310e6;
/** Readers' scratch, and what the driver holds at most of weights on their way. */
const [SCRATCH, IN_FLIGHT] = [24 * 2 ** 20, 2 ** 26];
/** Arrays of the size of the working image that are alive at once, f32. */
const IMAGES = 8;

type PlannedStage = StagePlan & Pick<StageForecast, 'stage' | 'graph'>;

/**
 * Forecasts the restoration of a photo of `size` pixels and chooses the memory for it. Throws UserError with the numbers when it does not fit, as
 * restoring would, ShapeError when a tensor exceeds the largest binding.
 */
export function forecastRestore<K extends Kind>(
  method: Method<K>,
  model: K['model'],
  size: Framed,
  options: K['options'],
  { memory, freeMemory = null, speeds = null, planned }: ForecastSettings = {},
): Forecast {
  const { device } = model;
  const { framed: photo } = framed(size, options);
  const { working, result } = method.sizes(photo, options, model.config);
  const { width, height } = working;
  const imageBytes = IMAGES * 4 * 3 * width * height;
  const beside = PROCESS_BYTES + SCRATCH + IN_FLIGHT + imageBytes;
  let budget = memory ?? device.card.bytes;
  let budgetFrom: Forecast['budgetFrom'] = memory === undefined ? 'estimate' : 'given';
  if (memory === undefined && device.facts.software && freeMemory !== null) {
    budget = Math.max(0, 0.9 * (freeMemory + device.memory.bytes) - beside);
    budgetFrom = 'free memory';
  }
  const planning = { model, options, size: working, photo, budget };
  const planOf = (stage: Stage<K>): PlannedStage => ({ stage: stage.name, graph: stage.graph, ...stage.plan(planning) });
  const inOrder = method.stages(options);
  // What no tiles make smaller comes first: where that does not fit, none are divided in vain.
  const whole = new Map(inOrder.filter(({ isTiled }) => !isTiled).map((stage) => [stage, planOf(stage)]));
  const simulated = (planned: PlannedStage[], known: Speeds | null) =>
    explained(budgetFrom, device.card, () => simulate(planned, working, budget, device, known));
  simulated([...whole.values()], null);
  const stages = inOrder.map((stage) => whole.get(stage) ?? planOf(stage));
  const forecasts = simulated(stages, speeds);
  planned?.(stages.flatMap(({ programs }) => programs.map(({ plan }) => plan)));
  const peakGpuBytes = Math.max(...forecasts.map(({ gpuBytes }) => gpuBytes));
  const hostBytes = Math.max(...forecasts.map(({ hostBytes }) => hostBytes));
  const sampling = forecasts.find(({ stage }) => stage === 'sample');
  const all = (of: (stage: StageForecast) => number) => forecasts.reduce((sum, stage) => sum + of(stage), 0);
  const streamed = forecasts.filter((stage) => stage.streamed > 0);
  const weights = distinctWeights(stages);
  const residency: ResidencyKind = streamed.length > 0 ? 'streamed' : forecasts[forecasts.length - 1].left > 0 ? 'component' : 'resident';
  return {
    working,
    result,
    budget,
    budgetFrom,
    residency,
    why: [
      reasonOf(residency, weights, budgetReason(budget, budgetFrom, device.card), streamed),
      ...tilingReasons(forecasts),
      ...cachingReasons(forecasts),
    ],
    peakGpuBytes,
    peakHostBytes: beside - IN_FLIGHT + Math.min(IN_FLIGHT, weights) + hostBytes + (device.facts.software ? peakGpuBytes : 0),
    readBytes: all((stage) => stage.read),
    readPerStep: sampling ? (sampling.read - sampling.loaded) / sampling.parts : 0,
    gflop: all((stage) => stage.gflop),
    seconds: speeds && all((stage) => stage.seconds ?? 0),
    stages: forecasts.map(({ left: _, ...stage }) => stage),
  };
}

/** Lets the programs pass through a ledger, one after the other; `left`: bytes of weights that had left by the end of the stage. */
function simulate(
  stages: PlannedStage[],
  size: Size,
  budget: number,
  { facts, gpu }: Device,
  speeds: Speeds | null,
): (StageForecast & { left: number })[] {
  const ledger = new WeightLedger();
  ledger.budget = budget;
  let left = 0;
  return stages.map(({ programs, reuses, ...stage }) => {
    const forecast = { ...stage, runs: 0, reusing: 0, activations: 0, weights: 0, gpuBytes: 0, loaded: 0, streamed: 0, read: 0, gflop: 0 };
    const works = new Array<number>(stage.parts).fill(0);
    let seconds = 0;
    for (const { plan: wanted, runs, reusing = 0, beside = 0, besideIs } of programs) {
      const before = ledger.bytes;
      const {
        plan: planned,
        placement,
        leaving,
      } = inStage(stage.stage, size, beside, besideIs, () => ledger.admit(wanted, beside, gpu.limits.minStorageBufferOffsetAlignment));
      const gone = leaving.reduce((sum, weight) => sum + weight.bytes, 0);
      const loaded = ledger.bytes - before + gone;
      const slabs = placement.slabs.reduce((sum, slab) => sum + slab, 0);
      const gflopOf = (dispatches: Plan['dispatches']) => dispatches.reduce((sum, { flops }) => sum + flops, 0) / 1e9;
      const [first, always] = [planned.dispatches.slice(0, planned.once), planned.dispatches.slice(planned.once)];
      const [once, gflop] = [gflopOf(first), gflopOf(always)];
      const gflopReusing = gflopOf(always.filter((dispatch) => planned.reusing?.has(dispatch)));
      left += gone;
      forecast.runs += runs;
      forecast.reusing += reusing;
      forecast.activations = Math.max(forecast.activations, planned.bytes.total + beside);
      forecast.weights = Math.max(forecast.weights, placement.bytes);
      forecast.gpuBytes = Math.max(forecast.gpuBytes, ledger.bytes + planned.bytes.total + slabs + beside);
      forecast.loaded += loaded;
      forecast.streamed = Math.max(forecast.streamed, placement.streamed);
      forecast.read += loaded + (runs - reusing) * placement.streamed + reusing * placement.streamedReusing;
      forecast.gflop += once + (runs - reusing) * gflop + reusing * gflopReusing;
      for (const i of works.keys()) works[i] += (runs / stage.parts) * (reusing > 0 && reuses?.[i] ? gflopReusing : gflop);
      if (speeds) {
        const { gflopPerSecond, byGraph = {}, readPerSecond = Number.POSITIVE_INFINITY } = speeds;
        const speed = byGraph[stage.graph] ?? gflopPerSecond;
        const secondsOf = (work: number, bytes: number) => {
          const [computing, reading] = [work / speed, bytes / readPerSecond];
          // A software adapter computes with the processor that reads.
          return facts.software ? computing + reading : Math.max(computing, reading);
        };
        seconds += loaded / readPerSecond + once / speed;
        seconds += (runs - reusing) * secondsOf(gflop, placement.streamed) + reusing * secondsOf(gflopReusing, placement.streamedReusing);
      }
      ledger.leave(placement);
    }
    return { ...forecast, ...(reuses ? { ends: endsOf(works) } : {}), seconds: speeds && seconds, left };
  });
}

/** The share of all work that is done after each part. */
function endsOf(works: readonly number[]): number[] {
  const total = works.reduce((sum, work) => sum + work, 0);
  let done = 0;
  return works.map((work) => (done += work) / total);
}

/** What `admitted` returns; where it does not fit, says which stage of what picture that is, and what is beside it. */
function inStage<T>(stage: string, { width, height }: Size, beside: number, besideIs: string | undefined, admitted: () => T): T {
  try {
    return admitted();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const without = besideIs ? ` ${gb(beside)} of it are for ${besideIs}: without it less is needed.` : '';
    throw new UserError(`At ${width} x ${height} pixels the stage '${stage}' does not fit: ${error.message}${without}`, {
      ...factsOf(error),
      cause: error,
    });
  }
}

function distinctWeights(stages: PlannedStage[]): number {
  const bytes = new Map<object, number>();
  for (const { programs } of stages) {
    for (const { plan: planned } of programs)
      for (const storage of planned.fixed) if (storage.kind === 'parameter') bytes.set(storage.parameter, storage.bytes);
  }
  return [...bytes.values()].reduce((sum, each) => sum + each, 0);
}

const gb = (bytes: number): string => `${(bytes / 1e9).toFixed(bytes < 1e8 ? 3 : bytes < 1e9 ? 2 : 1)} GB`;

/** What `simulated` returns; where it does not fit, says of a number that was only estimated where it comes from. */
function explained<T>(from: Forecast['budgetFrom'], { why }: CardMemory, simulated: () => T): T {
  try {
    return simulated();
  } catch (error) {
    if (!(error instanceof UserError) || from !== 'estimate') throw error;
    throw new UserError(`${sentence(error.message)} How much the GPU has is an estimate: ${why}.`, { ...factsOf(error), cause: error });
  }
}

function budgetReason(budget: number, from: Forecast['budgetFrom'], { why }: CardMemory): string {
  return {
    given: `${gb(budget)} are allowed`,
    'free memory': `${gb(budget)} of the machine's memory may be used`,
    estimate: `${gb(budget)} of GPU memory may be used (${why})`,
  }[from];
}

function reasonOf(kind: ResidencyKind, weights: number, allowed: string, streamed: StageForecast[]): string {
  const size = `all weights take ${gb(weights)}`;
  if (kind === 'resident') return `All weights stay: ${allowed}, and ${size}.`;
  if (kind === 'component') return `Weights leave when others need their room: ${allowed}, and ${size}.`;
  const which = streamed.map((stage) => `'${stage.stage}' reads ${gb(stage.streamed)} at every run`).join(', ');
  return `Weights pass through: ${allowed}, and ${size}; ${which}.`;
}

function tilingReasons(stages: StageForecast[]): string[] {
  const of = (tiling: StageForecast['tiling']) => stages.filter((stage) => stage.tiling === tiling).map(({ stage }) => stage);
  const [exact, windows] = [of('exact'), of('windows')];
  return [
    exact.length > 0 ? `Exact tiles in ${exact.join(', ')}: too large to run whole.` : '',
    publishedReason(stages.filter(({ tiling }) => tiling === 'published')),
    windows.length > 0 ? 'Sampling in windows: the latent is larger than the tile.' : '',
  ].filter((reason) => reason !== '');
}

function cachingReasons(stages: StageForecast[]): string[] {
  const cached = stages.filter(({ reusing }) => reusing > 0);
  return cached.map(({ stage, runs, reusing }) => `Step caching: ${reusing} of ${runs} runs in ${stage} take deep features over.`);
}

function publishedReason(stages: StageForecast[]): string {
  if (stages.length === 0) return '';
  const which = stages.map(({ stage }) => stage).join(', ');
  const times = stages.flatMap(({ weighed }) => (weighed ? [weighed.exact / weighed.published] : []));
  if (times.length === 0) return `Published tiles in ${which}, as chosen.`;
  return `Published tiles in ${which}: exact ones would compute ${times.map((each) => each.toFixed(each < 10 ? 1 : 0)).join(', ')} times as much.`;
}
