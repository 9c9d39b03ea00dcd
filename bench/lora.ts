/**
 * `npm run bench -- lora`: what adapters cost. An evaluation without and with adapters on every attention projection of the UNet, taking turns;
 * or a single transformer block of a published width. Synthetic weights.
 */

import { named, type Parameter, parameters } from '../core/module.ts';
import { TorchRandom } from '../core/random.ts';
import { input, sizeOf, type Tensor } from '../core/tensor.ts';
import { openDevice } from '../gpu/device.ts';
import { compile, type RunInputs } from '../gpu/program.ts';
import { host } from '../host/node.ts';
import { LoraStack } from '../models/lora.ts';
import { Supir } from '../models/supir.ts';
import { BasicTransformerBlock } from '../models/transformer.ts';
import { newAdapters } from '../train/lora.ts';
import { attachSynthetic } from './checkout.ts';
import { median } from './median.ts';
import { configOf, denoiserInputs } from './unet.ts';
import { type Worker, workClock } from './work-clock.ts';

export interface LoraBenchOptions {
  config?: string;
  /** Width of a single block with heads of 64 and a context of 2048; undefined for a whole evaluation. */
  block?: number;
  latent: number;
  rounds: number;
  rank: number;
  /** Adapters of every projection, of `rank` together. */
  adapters: number;
}

export interface LoraBenchResult {
  what: string;
  rank: number;
  adapters: number;
  /** Adapted layers. */
  layers: number;
  /** Medians of milliseconds, without and with adapters, by whoever computes; and of what they add to the run beside. */
  worker: Worker;
  plainMs: number;
  adaptedMs: number;
  added: number;
  /** GFLOP and dispatches, without and with. */
  gflop: [number, number];
  dispatches: [number, number];
}

const UNET = 'model.diffusion_model.';

/** What is timed: a graph, its inputs and its module. */
interface Subject {
  what: string;
  module: object;
  graph: Record<string, Tensor>;
  inputs: RunInputs;
  weights: Parameter[];
}

export async function benchLora(options: LoraBenchOptions): Promise<LoraBenchResult> {
  const { rank, adapters, rounds } = options;
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
  const { what, module, graph, inputs, weights } = options.block ? block(options.block, options.latent) : await whole(options);
  const loras = Array.from({ length: adapters }, (_, seed) =>
    newAdapters(weights, { rank: rank / adapters, targets: ['attention'], seed }),
  );
  const stack = new LoraStack(loras.map((list) => ({ adapters: list, scale: 0.5 })));
  const programs = [await compile(device, graph), await compile(device, stack.apply(graph))];
  const clock = workClock(device);
  const times: number[][] = [[], []];
  for (let round = 0; round <= rounds; round++) {
    for (const [i, program] of programs.entries()) {
      const ms = await clock.time(() => program.run(inputs));
      // In the first round drivers compile.
      if (round > 0) times[i].push(ms);
    }
  }
  const [plainMs, adaptedMs] = times.map(median);
  const of = <T>(value: (program: (typeof programs)[0]) => T) => programs.map(value) as [T, T];
  const result = {
    what,
    worker: clock.worker,
    rank,
    adapters,
    layers: loras[0].length,
    plainMs,
    adaptedMs,
    added: median(times[1].map((ms, i) => ms / times[0][i] - 1)),
    gflop: of(({ plan }) => plan.flops / 1e9),
    dispatches: of(({ plan }) => plan.dispatches.length),
  };
  for (const program of programs) program.dispose();
  stack.release(device);
  device.residency.releaseAll(module);
  device.close();
  return result;
}

async function whole({ config: folder, latent }: LoraBenchOptions): Promise<Subject> {
  const config = await configOf(folder);
  const supir = new Supir(config);
  attachSynthetic(supir.model, 'model.');
  const { unet } = config;
  const shape = [1, latent, latent, unet.in_channels];
  const tokens = config.text.context_length;
  return {
    what: `${config.name}, UNet and control network, latent ${latent} x ${latent}`,
    module: supir,
    graph: supir.denoiserGraph(shape, tokens, 1),
    inputs: denoiserInputs(config, latent),
    weights: [...parameters(supir.model.diffusion_model)].map(([, parameter]) => parameter),
  };
}

function block(width: number, latent: number): Subject {
  const module = new BasicTransformerBlock(width, 2048, 64);
  attachSynthetic(module, UNET);
  named(module, UNET);
  const [x, context] = [
    [1, latent * latent, width],
    [1, 77, 2048],
  ];
  const random = new TorchRandom(1);
  return {
    what: `a transformer block of width ${width}, ${latent * latent} tokens`,
    module,
    graph: { y: module.forward(input('x', x), input('context', context)) },
    inputs: { x: random.randn(sizeOf(x)), context: random.randn(sizeOf(context)) },
    weights: [...parameters(module)].map(([, parameter]) => parameter),
  };
}

/** The figures as a line for a person. */
export function loraLine(r: LoraBenchResult): string {
  const { gflop, dispatches } = r;
  return `${r.what}; rank ${r.rank} in ${r.adapters} on ${r.layers} layers: ${r.plainMs.toFixed(0)} -> ${r.adaptedMs.toFixed(0)} ms of ${r.worker} time (${(100 * r.added).toFixed(1)} % more), ${gflop[0].toFixed(2)} -> ${gflop[1].toFixed(2)} GFLOP, ${dispatches[0]} -> ${dispatches[1]} dispatches`;
}
