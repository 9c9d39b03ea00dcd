/**
 * `npm run bench -- unet`: one evaluation of UNet and control network, as a step of sampling does it, with synthetic weights that are made in place, so
 * that no checkpoint is needed. The published sizes take 8 GB of memory, DiffBIR's 2.5 GB.
 */
import { availableParallelism } from 'node:os';
import { TorchRandom } from '../core/random.ts';
import type { Tensor } from '../core/tensor.ts';
import { openDevice } from '../gpu/device.ts';
import { type KernelTime, Profile } from '../gpu/profiler.ts';
import { compile, type RunInputs } from '../gpu/program.ts';
import { host } from '../host/node.ts';
import { parseConfig, SUPIR_SDXL, type SupirConfig, type UnetConfig } from '../models/config.ts';
import { DiffBir } from '../models/diffbir.ts';
import { SD21 } from '../models/stable-diffusion.ts';
import { Supir } from '../models/supir.ts';
import { attachSynthetic } from './checkout.ts';
import { median } from './median.ts';
import { type Worker, workClock } from './work-clock.ts';

export interface UnetOptions {
  /** A folder with config.json; undefined for the published sizes. */
  config?: string;
  /** Side of the latent, in latent pixels. */
  latent: number;
  rounds: number;
  /** Whose networks. Default SUPIR's; DiffBIR's are of the published size. */
  method?: 'supir' | 'diffbir';
  /** Branches of the guidance in one batch: 1 without guidance, which is the default. */
  branches?: 1 | 2;
  /** Bytes of GPU memory that may be used: with less than the weights take, they are streamed. Default: no limit. */
  memory?: number;
}

export interface UnetResult {
  model: string;
  adapter: string;
  latent: number;
  /** Thousand millions of floating-point operations by the operations' definitions. */
  gflop: number;
  dispatches: number;
  /** From planning to a program that is ready: weights made and uploaded, pipelines compiled meanwhile. */
  prepareMs: number;
  pipelines: number;
  compileMs: number;
  /** The first evaluation, in which CPU drivers finish compiling. */
  firstMs: number;
  /** Medians of an evaluation: by the clock on the wall, and by whoever computes. */
  wallMs: number;
  worker: Worker;
  workMs: number;
  /** By wall time, and by the other; of a CPU driver on all cores. */
  gflopsWall: number;
  gflopsWork: number;
  /** Microseconds of CPU time to record and submit a dispatch, median. */
  encodeUs: number;
  /** Bytes of weights, and of everything else at most; and what was in use of the GPU at most. */
  weightBytes: number;
  otherBytes: number;
  peakBytes: number;
  /** Of one evaluation apart, in which each dispatch is timed by itself. */
  kernels: KernelTime[];
}

/** Times `rounds` evaluations after a first one. */
export async function benchUnet(options: UnetOptions): Promise<UnetResult> {
  const { latent, rounds, memory = Number.POSITIVE_INFINITY } = options;
  const { name, roots, outputs, inputs } = await (options.method === 'diffbir' ? diffbir(options) : supir(options));
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle, chooseMatrixUnit: host.chooseMatrixUnit });
  device.residency.budget = memory;

  const begun = performance.now();
  const program = await compile(device, outputs);
  const prepareMs = performance.now() - begun;
  const encoding = encodingTimes(device.gpu);
  const times: { wall: number; work: number; encode: number }[] = [];
  const clock = workClock(device);
  const { dispatches, flops, bytes } = program.plan;
  // What changes seldom is given once, as a sampler gives it.
  const changing = Object.fromEntries(Object.entries(inputs).filter(([name]) => !program.plan.seldom.has(name)));
  const evaluate = async (given = changing) => {
    let wall = 0;
    let encode = 0;
    const work = await clock.time(async () => {
      const from = performance.now();
      encoding.length = 0;
      const [prediction] = Object.values(await program.run(given));
      wall = performance.now() - from;
      // The first submission holds the dispatches; until then the GPU, which may be this processor, rests.
      encode = encoding[0] / dispatches.length;
      if (!prediction.every(Number.isFinite)) throw new Error('The evaluation gave values that are not numbers.');
    });
    return { wall, work, encode };
  };
  const first = await evaluate(inputs);
  for (let round = 0; round < rounds; round++) times.push(await evaluate());
  const profile = (device.profile = new Profile());
  await evaluate();
  device.profile = null;

  const [wallMs, workMs, encodeUs] = (['wall', 'work', 'encode'] as const).map((key) => median(times.map((time) => time[key])));
  const workers = clock.worker === 'CPU' ? availableParallelism() : 1;
  const result = {
    model: name,
    adapter: device.facts.description || device.facts.device,
    latent,
    gflop: flops / 1e9,
    dispatches: dispatches.length,
    prepareMs,
    pipelines: device.pipelineCount,
    compileMs: device.compileMs,
    firstMs: first.wall,
    wallMs,
    worker: clock.worker,
    workMs,
    gflopsWall: flops / wallMs / 1e6,
    gflopsWork: (flops / workMs / 1e6) * workers,
    encodeUs,
    weightBytes: bytes.weights,
    otherBytes: bytes.total,
    peakBytes: device.memory.peak,
    kernels: profile.kernels(),
  };
  program.dispose();
  for (const root of roots) device.residency.releaseAll(root);
  device.close();
  return result;
}

interface Subject {
  name: string;
  /** Modules with weights. */
  roots: object[];
  outputs: Record<string, Tensor>;
  inputs: RunInputs;
}

async function supir({ config: folder, latent, branches = 1 }: UnetOptions): Promise<Subject> {
  const config = await configOf(folder);
  const networks = new Supir(config);
  attachSynthetic(networks.model, 'model.');
  const outputs = networks.denoiserGraph([1, latent, latent, config.unet.in_channels], config.text.context_length, branches);
  return { name: config.name, roots: [networks.model], outputs, inputs: denoiserInputs(config, latent, branches) };
}

async function diffbir({ latent, branches = 1 }: UnetOptions): Promise<Subject> {
  const networks = new DiffBir(SD21);
  attachSynthetic(networks.base.model, 'model.');
  attachSynthetic(networks.control, '');
  const outputs = networks.denoiserGraph([1, latent, latent, SD21.unet.in_channels], SD21.text.context_length, branches);
  const { vector: _, ...inputs } = denoiserInputs(SD21, latent, branches);
  return { name: 'DiffBIR, Stable Diffusion 2.1', roots: [networks.base.model, networks.control], outputs, inputs };
}

/** Collects the CPU time, in microseconds, from making a command encoder until its commands are submitted, of each from now on. */
function encodingTimes(gpu: GPUDevice): number[] {
  const { queue } = gpu;
  const [create, submit] = [gpu.createCommandEncoder.bind(gpu), queue.submit.bind(queue)];
  const times: number[] = [];
  let begun: NodeJS.CpuUsage | undefined;
  Object.defineProperty(gpu, 'queue', { value: queue });
  gpu.createCommandEncoder = (descriptor) => {
    begun = process.cpuUsage();
    return create(descriptor);
  };
  queue.submit = (commands) => {
    submit(commands);
    const { user, system } = process.cpuUsage(begun);
    times.push(user + system);
    return undefined;
  };
  return times;
}

/** The configuration of a model folder, or the published model's. */
export async function configOf(folder: string | undefined): Promise<SupirConfig> {
  if (folder === undefined) return SUPIR_SDXL;
  const path = `${folder}/config.json`;
  return parseConfig(JSON.parse(new TextDecoder().decode(await host.readFile(path))), path);
}

/** The figures as lines for a person. */
export function unetTable(r: UnetResult): string {
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
  const s = (ms: number) => `${(ms / 1000).toFixed(2)} s`;
  const total = r.kernels.reduce((sum, { ms }) => sum + ms, 0);
  const rows = r.kernels.map(({ kernel, dispatches, ms, gflop, mb: moved }) =>
    [
      kernel.padEnd(44),
      String(dispatches).padStart(10),
      ms.toFixed(1).padStart(10),
      `${((ms / total) * 100).toFixed(1)}%`.padStart(7),
      (gflop > 0 ? (gflop / ms) * 1000 : 0).toFixed(1).padStart(9),
      (moved / ms).toFixed(1).padStart(7),
    ].join(' '),
  );
  return [
    `${r.model}, latent ${r.latent} x ${r.latent}, on ${r.adapter}`,
    `${r.gflop.toFixed(1)} GFLOP in ${r.dispatches} dispatches; ${mb(r.weightBytes)} of weights, ${mb(r.otherBytes)} beside them, ${mb(r.peakBytes)} in use at most`,
    `ready in ${s(r.prepareMs)}, ${r.pipelines} pipelines compiled meanwhile in ${s(r.compileMs)}; first evaluation ${s(r.firstMs)}`,
    `an evaluation: ${s(r.wallMs)} (${r.gflopsWall.toFixed(1)} GFLOP/s), ${s(r.workMs)} of ${r.worker} time (${r.gflopsWork.toFixed(1)} GFLOP/s${r.worker === 'CPU' ? ' on all cores' : ''})`,
    `${r.encodeUs.toFixed(2)} microseconds of CPU time to record and submit a dispatch`,
    '',
    `${'kernel'.padEnd(44)} dispatches         ms   share   GFLOP/s    GB/s`,
    ...rows,
  ].join('\n');
}

/** Random inputs of the denoiser's graph, of one latent. */
export function denoiserInputs(
  { unet, text }: { unet: UnetConfig; text: { context_length: number } },
  latent: number,
  branches = 1,
): RunInputs {
  const random = new TorchRandom(1);
  const pixels = latent * latent * unet.in_channels;
  return {
    x: random.randn(pixels),
    hint: random.randn(pixels),
    timestep: random.randn(unet.model_channels),
    context: random.randn(branches * text.context_length * unet.context_dim),
    vector: random.randn(branches * unet.adm_in_channels),
    controlScale: 1,
  };
}
