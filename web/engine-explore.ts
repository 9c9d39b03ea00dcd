/** A look inside the networks: what they are made of, and what was recorded of a run, step by step, as pictures and norms. */
import type { Image } from '../image/image.ts';
import { latentFactor } from '../models/config.ts';
import { type BlockGraph, blocksOf } from '../models/graph-blocks.ts';
import type { Networks, Tap, Values } from '../restore/networks.ts';
import { mosaic } from '../restore/trace.ts';
import type { EngineModel } from './engine-model.ts';
import { bitmapOf } from './pictures.ts';
import type { Activation, AttentionMap, NetworkReport } from './protocol.ts';

/** Paths whose attributes are the blocks. */
const NETWORKS = ['model.control_model', 'model.diffusion_model'];

interface Recorded {
  mosaic: Image;
  channels: number;
  norm: number;
}

/** Activations of one run. */
class Recording {
  readonly blocks = new Map<string, Recorded[]>();
}

export class Explorer {
  private readonly model: EngineModel;
  private record = new Recording();

  constructor(model: EngineModel) {
    this.model = model;
  }

  /** UNet and control network as blocks, for a latent of the model's smallest image. */
  async network(): Promise<NetworkReport> {
    const { model } = await this.model.restorer();
    const { networks, config } = model;
    const side = Math.max(config.min_size / latentFactor(config), 16);
    return { graph: graphOf(networks, side), latent: [side, side], attention: [] };
  }

  /** Takes what a run computes; the run before is forgotten. */
  recorder(): Tap {
    const record = new Recording();
    this.record = record;
    return {
      wanted: () => true,
      take(tensors) {
        for (const [name, values] of Object.entries(tensors)) {
          const steps = record.blocks.get(name) ?? [];
          record.blocks.set(name, steps);
          steps.push({ mosaic: mosaic(values), channels: values.shape[3], norm: rootMeanSquare(values) });
        }
      },
    };
  }

  async activation(block: string, step: number): Promise<Activation | null> {
    const steps = this.record.blocks.get(block);
    const recorded = steps?.[Math.min(step, steps.length) - 1];
    if (!steps || !recorded) return null;
    return { mosaic: await bitmapOf(recorded.mosaic), channels: recorded.channels, norms: steps.map(({ norm }) => norm) };
  }

  async attention(_layer: string, _step: number, _x: number, _y: number): Promise<AttentionMap | null> {
    return null;
  }
}

function graphOf(networks: Networks, side: number): BlockGraph {
  const { config } = networks.supir;
  const graph = networks.denoiserGraph([1, side, side, config.vae.z_channels], config.text.context_length, 1);
  return blocksOf(graph, networks.supir, NETWORKS);
}

function rootMeanSquare({ data }: Values): number {
  let sum = 0;
  for (const value of data) sum += value * value;
  return Math.sqrt(sum / data.length);
}
