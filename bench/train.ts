/**
 * `npm run bench -- train`: a step of training adapters of UNet and control network, beside the forward pass alone: time, and memory with and
 * without computing activations a second time. Synthetic weights.
 */

import { parameters } from '../core/module.ts';
import { TorchRandom } from '../core/random.ts';
import { input, sizeOf } from '../core/tensor.ts';
import { openDevice } from '../gpu/device.ts';
import { type KernelTime, Profile } from '../gpu/profiler.ts';
import { compile, type Program, type RunInputs } from '../gpu/program.ts';
import { host } from '../host/node.ts';
import { LoraStack } from '../models/lora.ts';
import { Supir } from '../models/supir.ts';
import { AdamW } from '../train/adamw.ts';
import { factorsOf, newAdapters } from '../train/lora.ts';
import { noiseLoss } from '../train/loss.ts';
import { TrainingStep } from '../train/step.ts';
import { median } from './median.ts';
import { attachSynthetic, configOf } from './unet.ts';
import { type Worker, workClock } from './work-clock.ts';

export interface TrainBenchOptions {
  config?: string;
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
  /** Bytes of intermediate results. */
  forwardBytes: number;
  keptBytes: number;
  checkpointedBytes: number;
  dispatches: { forward: number; kept: number; checkpointed: number };
  /** Of one step that keeps all activations, each dispatch timed by itself. */
  kernels: KernelTime[];
}

export async function benchTrain({ config: folder, latent, rounds, rank, batch }: TrainBenchOptions): Promise<TrainBenchResult> {
  const config = await configOf(folder);
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
  const supir = new Supir(config);
  attachSynthetic(supir.model, 'model.');
  const { unet } = config;
  const { diffusion_model, control_model } = supir.model;
  const adapters = newAdapters(
    [...parameters(diffusion_model)].map(([, parameter]) => parameter),
    { rank, targets: ['attention'], seed: 1 },
  );
  const { factors, values } = factorsOf(adapters);
  const stack = new LoraStack([{ adapters, scale: 1 }]);
  const shapes = {
    x: [batch, latent, latent, unet.in_channels],
    hint: [batch, latent, latent, unet.in_channels],
    noise: [batch, latent, latent, unet.in_channels],
    timestep: [batch, unet.model_channels],
    context: [batch, config.text.context_length, unet.context_dim],
    vector: [batch, unet.adm_in_channels],
    weight: [batch],
  };
  const of = (name: keyof typeof shapes) => input(name, shapes[name]);
  const [x, timestep, context, vector] = (['x', 'timestep', 'context', 'vector'] as const).map(of);
  const control = { features: control_model.forward(x, of('hint'), timestep, context, vector), scale: 1 };
  const predicted = diffusion_model.forward(x, timestep, context, vector, control);
  const { loss } = stack.apply(noiseLoss(predicted, of('noise'), of('weight')));
  const random = new TorchRandom(1);
  const inputs: RunInputs = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, random.randn(sizeOf(shape))]));

  const forward = await compile(device, { loss });
  const [kept, checkpointed] = await Promise.all(
    [false, true].map((checkpointing) => TrainingStep.compile(device, { loss }, factors, { checkpointing })),
  );
  const adam = new AdamW(values.map(({ length }) => length));
  const step = async (training: TrainingStep) => {
    const { gradients } = await training.run(inputs);
    adam.update(values, gradients, 1e-6);
    for (const [n, factor] of factors.entries()) device.residency.upload(factor, values[n]);
  };
  const runs = [() => forward.run(inputs), () => step(kept), () => step(checkpointed)];
  const clock = workClock(device);
  const times: number[][] = [[], [], []];
  for (let round = 0; round <= rounds; round++) {
    for (const [i, run] of runs.entries()) {
      const ms = await clock.time(run);
      // In the first round drivers compile.
      if (round > 0) times[i].push(ms);
    }
  }
  const profile = (device.profile = new Profile());
  await kept.run(inputs);
  device.profile = null;
  const bytes = (program: Program<string>) => program.plan.bytes.intermediates;
  const dispatches = (program: Program<string>) => program.plan.dispatches.length;
  const [forwardMs, keptMs, checkpointedMs] = times.map(median);
  return {
    what: `${config.name}, UNet and control network, batch ${batch}, latent ${latent} x ${latent}, rank ${rank} on ${adapters.length} layers`,
    worker: clock.worker,
    forwardMs,
    keptMs,
    checkpointedMs,
    forwardBytes: bytes(forward),
    keptBytes: bytes(kept.program),
    checkpointedBytes: bytes(checkpointed.program),
    dispatches: { forward: dispatches(forward), kept: dispatches(kept.program), checkpointed: dispatches(checkpointed.program) },
    kernels: profile.kernels(),
  };
}

/** The figures as lines for a person. */
export function trainTable(r: TrainBenchResult): string {
  const line = (name: string, ms: number, bytes: number, dispatches: number) =>
    `${name.padEnd(40)} ${ms.toFixed(0).padStart(8)} ${(ms / r.forwardMs).toFixed(2).padStart(8)} ${(bytes / 1e6).toFixed(1).padStart(8)} ${String(dispatches).padStart(10)}`;
  const total = r.kernels.reduce((sum, { ms }) => sum + ms, 0);
  return [
    r.what,
    `${''.padEnd(40)} ${`${r.worker} ms`.padStart(8)}  forwards       MB dispatches`,
    line('forward pass', r.forwardMs, r.forwardBytes, r.dispatches.forward),
    line('step that keeps activations', r.keptMs, r.keptBytes, r.dispatches.kept),
    line('step that computes them again', r.checkpointedMs, r.checkpointedBytes, r.dispatches.checkpointed),
    '',
    ...r.kernels.map(
      ({ kernel, dispatches, ms }) =>
        `${kernel.padEnd(48)} ${String(dispatches).padStart(6)} ${ms.toFixed(1).padStart(9)} ${((ms / total) * 100).toFixed(1).padStart(6)}%`,
    ),
  ].join('\n');
}
