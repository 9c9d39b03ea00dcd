/**
 * `npm run bench -- train`: a step of training adapters of UNet and control network, or the autoencoder, beside the forward pass alone: time, and memory
 * with and without computing activations a second time. Synthetic weights and images.
 */

import { TorchRandom } from '../core/random.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import { type Device, openDevice } from '../gpu/device.ts';
import { type KernelTime, Profile } from '../gpu/profiler.ts';
import { compile } from '../gpu/program.ts';
import { host } from '../host/node.ts';
import { latentFactor, type SupirConfig } from '../models/config.ts';
import { Supir } from '../models/supir.ts';
import { AutoencoderTask, type TrainingPicture } from '../train/autoencoding.ts';
import { DenoisingTask, type TrainingImage } from '../train/denoising.ts';
import { LoraTraining } from '../train/lora-training.ts';
import { NetworkTraining } from '../train/network-training.ts';
import type { Task, Training, TrainingItem } from '../train/training.ts';
import { attachSynthetic } from './checkout.ts';
import { median } from './median.ts';
import { configOf } from './unet.ts';
import { type Worker, workClock } from './work-clock.ts';

export interface TrainBenchOptions {
  config?: string;
  /** What is trained: adapters of UNet and control network, or the autoencoder. */
  part: 'lora' | 'vae';
  latent: number;
  rounds: number;
  rank: number;
  batch: number;
}

export interface TrainBenchResult {
  what: string;
  /** Medians of milliseconds by whoever computes: the forward pass, and whole steps (update of the weights included). */
  worker: Worker;
  forwardMs: number;
  keptMs: number;
  checkpointedMs: number;
  /** Bytes that are taken on the device beside the networks' own weights. */
  forwardBytes: number;
  keptBytes: number;
  checkpointedBytes: number;
  /** Of one step that keeps all activations, each dispatch timed by itself. */
  kernels: KernelTime[];
}

/** What is measured of a part of a model. */
interface Case {
  what: string;
  items: TrainingItem[];
  task: Task<TrainingItem>;
  open(device: Device, checkpointing: boolean): Promise<Training<TrainingItem>>;
  /** The graph of the forward pass, as a training of it has it. */
  applied(training: Training<TrainingItem>, graph: { loss: Tensor }): { loss: Tensor };
}

const OPTIONS = { steps: 1000, seed: 1, rate: 1e-6 };

function loraCase(config: SupirConfig, supir: Supir, { latent, rank, batch }: TrainBenchOptions): Case {
  attachSynthetic(supir.model, 'model.');
  const { unet, text, vae } = config;
  const random = new TorchRandom(1);
  const shape = [latent, latent, vae.z_channels];
  const items = Array.from({ length: batch }, (_, i): TrainingImage => {
    const [mean, hint] = [random.randn(sizeOf(shape)), random.randn(sizeOf(shape))];
    const [context, vector] = [random.randn(text.context_length * unet.context_dim), random.randn(unet.adm_in_channels)];
    return { name: `image ${i}`, shape, mean, deviation: new Float32Array(mean.length).fill(0.01), hint, context, vector };
  });
  const options = { ...OPTIONS, batch, rank, mode: 'restoration', targets: ['attention'] } as const;
  return {
    what: `UNet and control network, batch ${batch}, latent ${latent} x ${latent}, rank ${rank} on attention`,
    items,
    task: new DenoisingTask(supir, options) as Task<TrainingItem>,
    open: async (device, checkpointing) =>
      new LoraTraining(device, supir, { ...options, targets: [...options.targets], checkpointing }) as unknown as Training<TrainingItem>,
    applied: (training, graph) => (training as unknown as LoraTraining).stack.apply(graph),
  };
}

function vaeCase(config: SupirConfig, supir: Supir, { latent, batch }: TrainBenchOptions): Case {
  attachSynthetic(supir.first_stage_model, 'first_stage_model.');
  const random = new TorchRandom(1);
  const side = latent * latentFactor(config);
  const items = Array.from(
    { length: batch },
    (_, i): TrainingPicture => ({
      name: `picture ${i}`,
      shape: [side, side, 3],
      pixels: random.rand(side * side * 3).map((value) => 2 * value - 1),
    }),
  );
  const options = { ...OPTIONS, batch, network: 'vae', mode: 'denoising' } as const;
  return {
    what: `autoencoder, batch ${batch}, ${side} x ${side} pixels`,
    items,
    task: new AutoencoderTask(supir) as Task<TrainingItem>,
    open: (device, checkpointing) => NetworkTraining.open<TrainingItem>(device, supir, { ...options, checkpointing }),
    applied: (_, graph) => graph,
  };
}

export async function benchTrain(options: TrainBenchOptions): Promise<TrainBenchResult> {
  const config = await configOf(options.config);
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
  const { what, items, task, open, applied } = (options.part === 'vae' ? vaeCase : loraCase)(config, new Supir(config), options);
  const clock = workClock(device);
  const timed = async (run: () => Promise<unknown>) => {
    await run(); // drivers compile
    const times: number[] = [];
    for (let round = 0; round < options.rounds; round++) times.push(await clock.time(run));
    return median(times);
  };
  /** Times the work of a training, and tells what it takes on the device. */
  const measured = async (checkpointing: boolean, begin: (training: Training<TrainingItem>) => Promise<() => Promise<unknown>>) => {
    const training = await open(device, checkpointing);
    const ms = await timed(await begin(training));
    const { bytes } = device.memory;
    const profile = (device.profile = new Profile());
    await training.update(items);
    device.profile = null;
    await training.dispose();
    return { ms, bytes: bytes - device.memory.bytes, kernels: profile.kernels() };
  };
  const forward = await measured(true, async (training) => {
    const program = await compile(device, { loss: applied(training, task.graph(items)).loss });
    const inputs = task.inputs(items, new TorchRandom(1));
    return () => program.run(inputs);
  });
  const [kept, checkpointed] = [
    await measured(false, async (training) => () => training.update(items)),
    await measured(true, async (training) => () => training.update(items)),
  ];
  return {
    what: `${config.name}, ${what}`,
    worker: clock.worker,
    ...{ forwardMs: forward.ms, keptMs: kept.ms, checkpointedMs: checkpointed.ms },
    ...{ forwardBytes: forward.bytes, keptBytes: kept.bytes, checkpointedBytes: checkpointed.bytes },
    kernels: kept.kernels,
  };
}

/** The figures as lines for a person. */
export function trainTable(r: TrainBenchResult): string {
  const line = (name: string, ms: number, bytes: number) =>
    `${name.padEnd(40)} ${ms.toFixed(0).padStart(8)} ${(ms / r.forwardMs).toFixed(2).padStart(8)} ${(bytes / 1e6).toFixed(1).padStart(8)}`;
  const total = r.kernels.reduce((sum, { ms }) => sum + ms, 0);
  return [
    r.what,
    `${''.padEnd(40)} ${`${r.worker} ms`.padStart(8)}  forwards       MB`,
    line('forward pass', r.forwardMs, r.forwardBytes),
    line('step that keeps activations', r.keptMs, r.keptBytes),
    line('step that computes them again', r.checkpointedMs, r.checkpointedBytes),
    '',
    ...r.kernels.map(
      ({ kernel, dispatches, ms }) =>
        `${kernel.padEnd(48)} ${String(dispatches).padStart(6)} ${ms.toFixed(1).padStart(9)} ${((ms / total) * 100).toFixed(1).padStart(6)}%`,
    ),
  ].join('\n');
}
