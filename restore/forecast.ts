/**
 * What a restoration will take, before it begins: memory, reading, arithmetic and, on an adapter whose speed is known, time. Its programs are
 * planned as they will be and pass through a ledger of weights as on the device, so GPU memory is told to the byte; nothing is allocated or run.
 */
import { ShapeError, UserError } from '../core/errors.ts';
import { WeightLedger } from '../core/placement.ts';
import type { Plan } from '../core/plan.ts';
import type { Shape, Tensor } from '../core/tensor.ts';
import { preparedSizes } from '../image/prepare.ts';
import { plan } from '../kernels/fusion.ts';
import { latentFactor } from '../models/config.ts';
import type { EncoderName } from '../models/vae.ts';
import type { Networks } from './networks.ts';
import { isGuided, moduleScalesOf, type RestoreOptions, vaeTilingOf } from './options.ts';
import type { Stage } from './pipeline.ts';
import { samplingWindows } from './tiled-denoiser.ts';
import { type ChosenTiling, forecastAutoencoder, VAE_TILING } from './tiled-vae.ts';

export interface StageForecast {
  stage: Stage;
  /** How the stage divides its picture: not at all, in exact or published tiles of the autoencoder, or in windows of sampling. */
  tiling: ChosenTiling | 'windows';
  /** Runs of programs: tiles, texts, or evaluations of UNet and control network. */
  runs: number;
  /** GPU memory at most, in bytes: of its programs beside weights, of its weights there, and of everything. */
  activations: number;
  weights: number;
  gpuBytes: number;
  /** Feature maps on the host, in bytes. */
  hostBytes: number;
  /** Weights read from files: when the stage begins, and again at every run. */
  loaded: number;
  streamed: number;
  gflop: number;
  /** Null without speeds. */
  seconds: number | null;
}

/** resident: every weight stays; component: those of the stage at work; streamed: those of some stage pass through at every run. */
export type ResidencyKind = 'resident' | 'component' | 'streamed';

export interface Forecast {
  /** Sizes in pixels: at which the networks work, and of the result. */
  working: { width: number; height: number };
  result: { width: number; height: number };
  /** GPU memory that may be used, in bytes, null for no limit; and where the number comes from. */
  budget: number | null;
  budgetFrom: 'given' | 'free memory' | 'largest stage' | 'no limit';
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

/** How fast an adapter computes and files are read; speed.ts measures it. */
export interface Speeds {
  gflopPerSecond: number;
  readPerSecond: number;
}

export interface ForecastSettings {
  /** GPU memory that may be used, in bytes; undefined to choose. */
  memory?: number;
  /** Free memory of the machine in bytes, where it is known: software adapters compute in it. */
  freeMemory?: number | null;
  speeds?: Speeds | null;
}

/** The program itself: Node, its code and Dawn, measured with the demo model. */
const PROCESS_BYTES = 310e6;
/** Readers' scratch, and what the driver holds at most of weights on their way. */
const [SCRATCH, IN_FLIGHT] = [24 * 2 ** 20, 2 ** 26];
/** Arrays of the size of the working image that are alive at once, f32. */
const IMAGES = 8;

/** A program's part of a stage. */
interface Program {
  plan: Plan;
  runs: number;
  /** GPU memory in use beside it and weights, in bytes: maps between programs. */
  beside?: number;
}

interface PlannedStage {
  stage: Stage;
  tiling: StageForecast['tiling'];
  hostBytes: number;
  programs: Program[];
}

/**
 * Forecasts the restoration of a photo of `size` pixels and chooses the memory for it. Throws UserError with the numbers when it does not fit, as
 * restoring would, ShapeError when a tensor exceeds the largest binding.
 */
export function forecastRestore(
  networks: Networks,
  size: { width: number; height: number },
  options: RestoreOptions,
  { memory, freeMemory = null, speeds = null }: ForecastSettings = {},
): Forecast {
  const { device, supir } = networks;
  const { width, height, width0, height0 } = preparedSizes(size.width, size.height, { ...options, multiple: supir.config.image_multiple });
  const imageBytes = IMAGES * 4 * 3 * width * height;
  const beside = PROCESS_BYTES + SCRATCH + IN_FLIGHT + imageBytes;
  let budget = memory ?? Number.POSITIVE_INFINITY;
  let budgetFrom: Forecast['budgetFrom'] = memory === undefined ? 'no limit' : 'given';
  if (memory === undefined && device.facts.software && freeMemory !== null) {
    budget = Math.max(0, 0.9 * (freeMemory + device.memory.bytes) - beside);
    budgetFrom = 'free memory';
  }
  const stages = stagesOf(networks, { width, height }, options, budget);
  if (memory === undefined && !device.facts.software) {
    // A GPU does not tell how much memory it has: no more than the largest stage needs, and enough for the same tiles as without a limit.
    budget = Math.max(
      2 * VAE_TILING.mostWhole,
      ...stages.flatMap(({ programs }) => programs.map(({ plan: { bytes }, beside = 0 }) => bytes.total + bytes.weights + beside)),
    );
    budgetFrom = 'largest stage';
  }
  const steps = options.stage1Only ? 0 : options.steps;
  const forecasts = simulate(stages, budget, device, speeds);
  const peakGpuBytes = Math.max(...forecasts.map(({ gpuBytes }) => gpuBytes));
  const hostBytes = Math.max(...forecasts.map(({ hostBytes }) => hostBytes));
  const sampling = forecasts.find(({ stage }) => stage === 'sample');
  const all = (of: (stage: StageForecast) => number) => forecasts.reduce((sum, stage) => sum + of(stage), 0);
  const streamed = forecasts.filter((stage) => stage.streamed > 0);
  const weights = distinctWeights(stages);
  const residency: ResidencyKind = streamed.length > 0 ? 'streamed' : forecasts[forecasts.length - 1].left > 0 ? 'component' : 'resident';
  return {
    working: { width, height },
    result: { width: width0, height: height0 },
    budget: Number.isFinite(budget) ? budget : null,
    budgetFrom,
    residency,
    why: [reasonOf(residency, weights, budget, budgetFrom, streamed), ...tilingReasons(forecasts)],
    peakGpuBytes,
    peakHostBytes: beside - IN_FLIGHT + Math.min(IN_FLIGHT, weights) + hostBytes + (device.facts.software ? peakGpuBytes : 0),
    readBytes: all((stage) => stage.loaded + stage.runs * stage.streamed),
    readPerStep: sampling ? (sampling.streamed * sampling.runs) / steps : 0,
    gflop: all((stage) => stage.gflop),
    seconds: speeds && all((stage) => stage.seconds ?? 0),
    stages: forecasts.map(({ left: _, ...stage }) => stage),
  };
}

/** The stages of pipeline.ts with all their programs. */
function stagesOf(
  networks: Networks,
  { width, height }: { width: number; height: number },
  options: RestoreOptions,
  budget: number,
): PlannedStage[] {
  const { device, supir, loras } = networks;
  const { config, first_stage_model, conditioner } = supir;
  const factor = latentFactor(config);
  const tiling = vaeTilingOf(options);
  const image: Shape = [1, height, width, 3];
  const latent: Shape = [1, height / factor, width / factor, config.vae.z_channels];
  const planOf = (outputs: Record<string, Tensor>) => plan(loras.stack.apply(outputs), device.facts, device.gpu.limits);
  const autoencoder = (stage: Stage, half: 'encoder' | 'decoder', build: (x: Tensor) => Tensor, shape: Shape): PlannedStage => {
    const { how, ...forecast } = forecastAutoencoder(device, half, build, shape, tiling, budget);
    return { stage, tiling: how, ...forecast };
  };
  const encode = (stage: Stage, which: EncoderName) => autoencoder(stage, 'encoder', (x) => first_stage_model.encode(x, which), image);
  const decode = (stage: Stage) => autoencoder(stage, 'decoder', (z) => first_stage_model.decode(z), latent);

  const stages = [encode('encode', 'denoise_encoder'), decode('stage1')];
  if (options.stage1Only) return stages;
  const guided = isGuided(options);
  const texts = Math.max(1, options.tilePrompts.length) + (guided ? 1 : 0);
  const windows = samplingWindows(networks, latent, options.tile, options.tileStride);
  const [first] = windows ?? [{ y0: 0, y1: latent[1], x0: 0, x1: latent[2] }];
  const window = [1, first.y1 - first.y0, first.x1 - first.x0, latent[3]];
  const scales = moduleScalesOf(options, networks.projectModules);
  const denoiser = orSmallerTile(Math.max(window[1], window[2]), () =>
    planOf(supir.denoiserGraph(window, config.text.context_length, guided ? 2 : 1, scales !== null)),
  );
  const text = planOf({ ...conditioner.forward() });
  return [
    ...stages,
    encode('reencode', 'encoder'),
    { stage: 'text', tiling: 'whole', hostBytes: 0, programs: new Array<Program>(texts).fill({ plan: text, runs: 1 }) },
    {
      stage: 'sample',
      tiling: windows ? 'windows' : 'whole',
      hostBytes: 0,
      programs: [{ plan: denoiser, runs: options.steps * (windows?.length ?? 1) }],
    },
    decode('decode'),
  ];
}

/** What `planned` returns; where a tensor is too large for the adapter, says which tile to try. */
function orSmallerTile(side: number, planned: () => Plan): Plan {
  try {
    return planned();
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new ShapeError(`The stage 'sample' does not fit: ${error.message} Try --tile ${Math.ceil(side / 32) * 16}.`, { cause: error });
  }
}

/** Lets the programs pass through a ledger, one after the other; `left`: bytes of weights that had left by the end of the stage. */
function simulate(
  stages: PlannedStage[],
  budget: number,
  { facts, gpu }: Networks['device'],
  speeds: Speeds | null,
): (StageForecast & { left: number })[] {
  const ledger = new WeightLedger();
  ledger.budget = budget;
  let left = 0;
  return stages.map(({ stage, tiling, hostBytes, programs }) => {
    const forecast = { stage, tiling, runs: 0, activations: 0, weights: 0, gpuBytes: 0, hostBytes, loaded: 0, streamed: 0, gflop: 0 };
    let seconds = 0;
    for (const { plan: planned, runs, beside = 0 } of programs) {
      const before = ledger.bytes;
      const { placement, leaving } = admit(ledger, planned, beside, gpu.limits.minStorageBufferOffsetAlignment, stage);
      const gone = leaving.reduce((sum, weight) => sum + weight.bytes, 0);
      const loaded = ledger.bytes - before + gone;
      const slabs = placement.slabs.reduce((sum, slab) => sum + slab, 0);
      const gflop = planned.dispatches.reduce((sum, { flops }) => sum + flops, 0) / 1e9;
      left += gone;
      forecast.runs += runs;
      forecast.activations = Math.max(forecast.activations, planned.bytes.total + beside);
      forecast.weights = Math.max(forecast.weights, placement.bytes);
      forecast.gpuBytes = Math.max(forecast.gpuBytes, ledger.bytes + planned.bytes.total + slabs + beside);
      forecast.loaded += loaded;
      forecast.streamed = Math.max(forecast.streamed, placement.streamed);
      forecast.gflop += runs * gflop;
      if (speeds) {
        const [computing, reading] = [gflop / speeds.gflopPerSecond, placement.streamed / speeds.readPerSecond];
        // A software adapter computes with the processor that reads.
        seconds += loaded / speeds.readPerSecond + runs * (facts.software ? computing + reading : Math.max(computing, reading));
      }
      ledger.leave(placement);
    }
    return { ...forecast, seconds: speeds && seconds, left };
  });
}

function admit(ledger: WeightLedger, planned: Plan, beside: number, alignment: number, stage: Stage): ReturnType<WeightLedger['admit']> {
  try {
    return ledger.admit(planned, beside, alignment);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`The stage '${stage}' does not fit: ${error.message}`, { cause: error });
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

function reasonOf(kind: ResidencyKind, weights: number, budget: number, from: Forecast['budgetFrom'], streamed: StageForecast[]): string {
  const allowed = {
    given: `${gb(budget)} are allowed`,
    'free memory': `${gb(budget)} of the machine's memory may be used`,
    'largest stage': 'the GPU does not tell its memory, so no more is used than the largest stage needs',
    'no limit': 'there is no limit',
  }[from];
  const size = `all weights take ${gb(weights)}`;
  if (kind === 'resident') return `All weights stay: ${allowed}, and ${size}.`;
  if (kind === 'component') return `Weights leave when others need their room: ${allowed}, and ${size}.`;
  const which = streamed.map((stage) => `'${stage.stage}' reads ${gb(stage.streamed)} at every run`).join(', ');
  return `Weights pass through: ${allowed}, and ${size}; ${which}.`;
}

function tilingReasons(stages: StageForecast[]): string[] {
  const of = (tiling: StageForecast['tiling']) => stages.filter((stage) => stage.tiling === tiling).map(({ stage }) => stage);
  const [exact, published, windows] = [of('exact'), of('published'), of('windows')];
  return [
    exact.length > 0 ? `Exact tiles in ${exact.join(', ')}: too large to run whole.` : '',
    published.length > 0 ? `Published tiles in ${published.join(', ')}, as chosen.` : '',
    windows.length > 0 ? 'Sampling in windows: the latent is larger than the tile.' : '',
  ].filter((reason) => reason !== '');
}
