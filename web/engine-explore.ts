/** A look inside the networks: what they are made of, and what was recorded of a run, step by step, as pictures, norms and times. */

import { places } from '../core/module.ts';
import type { Device } from '../gpu/device.ts';
import { Profile } from '../gpu/profiler.ts';
import type { Image } from '../image/image.ts';
import { networkGraph } from '../restore/network-graphs.ts';
import type { Tap, Values } from '../restore/networks.ts';
import type { Kind } from '../restore/stage.ts';
import { mosaic } from '../restore/trace.ts';
import type { EngineModel } from './engine-model.ts';
import { bitmapOf, energy, heatOf, pooled } from './pictures.ts';
import type { Activation, AttentionMap, NetworkReport, Recorded } from './protocol.ts';

/** Longest side of a channel's picture: those of a whole run stay in memory. */
const SIDE = 32;
/** Side of the picture that a network is drawn for, where the model works at any size. */
const LEAST_SIDE = 64;
/** Bytes of queries and keys that are kept; beyond, only the last steps' are. */
const ATTENTION_BYTES = 2 ** 28;

interface Step {
  mosaic: Image;
  energy: Image;
  channels: number;
  norm: number;
}

/** What one run left behind, by the checkpoint's names. */
class Recording {
  readonly blocks = new Map<string, Step[]>();
  /** Queries and keys of the last image of a step's batch, `name.q` and `name.k`, by step. */
  readonly attention: Map<string, Values>[] = [];
  readonly profile = new Profile();
  /** Of each layer of attention. */
  readonly heads = new Map<string, number>();
  steps = 0;
}

export class Explorer {
  private readonly model: EngineModel;
  private recording: Recording | null = null;

  constructor(model: EngineModel) {
    this.model = model;
  }

  /** The method's main network as blocks, for the model's smallest image. */
  async network(): Promise<NetworkReport> {
    const { method, model } = await this.model.restorer();
    const { graph, title } = method.main;
    const side = Math.max(model.config.min_size, LEAST_SIDE);
    return { title, graph: networkGraph<Kind>(model.config, graph, side, side, method), side };
  }

  /** Takes what a run computes; the run before is forgotten. The adapter's times are taken until `stop`. */
  record(device: Device): { tap: Tap; stop(): void } {
    const recording = new Recording();
    this.recording = recording;
    device.profile = recording.profile;
    const tap: Tap = {
      wanted: (_, isBlock) => isBlock,
      attention(layer, heads) {
        recording.heads.set(layer, heads);
        return true;
      },
      take(tensors) {
        recording.steps++;
        // Where a step took deep features over, it is what they are of that is shown.
        const looked = new Map<string, Values>(recording.attention.at(-1));
        for (const [name, values] of Object.entries(tensors)) {
          if (values.shape.length !== 4) continue; // embeddings
          if (/\.[qk]$/.test(name)) {
            looked.set(name, lastOf(values));
            continue;
          }
          const steps = recording.blocks.get(name) ?? [];
          recording.blocks.set(name, steps);
          const one = lastOf(values);
          const small = pooled(one, SIDE);
          steps.push({ mosaic: mosaic(small), energy: energy(small), channels: one.shape[3], norm: rootMeanSquare(one) });
        }
        for (const steps of recording.blocks.values()) if (steps.length < recording.steps) steps.push(steps[steps.length - 1]);
        recording.attention.push(looked);
        dropOldest(recording.attention);
      },
    };
    const stop = () => {
      device.profile = null;
    };
    return { tap, stop };
  }

  /** Another model is open: what was recorded of the one before is nothing of its. */
  forget(): void {
    this.recording = null;
  }

  /** What there is to look at; null before a run of this model was recorded. */
  async recorded(): Promise<Recorded | null> {
    const { recording } = this;
    if (!recording || recording.steps === 0) return null;
    const layers = [...(recording.attention.at(-1)?.keys() ?? [])].filter((name) => name.endsWith('.q')).map((name) => name.slice(0, -2));
    return {
      steps: recording.steps,
      blocks: [...recording.blocks.keys()],
      attention: layers,
      times: timesByBlock(recording, (await this.model.restorer()).model.networks),
    };
  }

  /** Small pictures of all blocks after a step. */
  async energies(step: number): Promise<{ block: string; picture: ImageBitmap }[]> {
    const blocks = [...(this.recording?.blocks ?? [])];
    return Promise.all(blocks.map(async ([block, steps]) => ({ block, picture: await bitmapOf(at(steps, step).energy) })));
  }

  async activation(block: string, step: number): Promise<Activation | null> {
    const steps = this.recording?.blocks.get(block);
    if (!steps) return null;
    const shown = at(steps, step);
    return { mosaic: await bitmapOf(shown.mosaic), channels: shown.channels, norms: steps.map(({ norm }) => norm) };
  }

  /** Where the query at a share of width and height looks; null where the step is not kept any more. */
  async attention(layer: string, step: number, x: number, y: number): Promise<AttentionMap | null> {
    const kept = this.recording?.attention[step - 1];
    const [q, k] = [kept?.get(`${layer}.q`), kept?.get(`${layer}.k`)];
    if (!q || !k) return null;
    const [, height, width, channels] = q.shape;
    const pixel = Math.min(height - 1, Math.floor(y * height)) * width + Math.min(width - 1, Math.floor(x * width));
    const weights = attentionOf(q.data.subarray(pixel * channels, (pixel + 1) * channels), k, this.recording!.heads.get(layer)!);
    const largest = Math.max(...weights);
    const size = { width: k.shape[2], height: k.shape[1] };
    return {
      picture: await bitmapOf(
        heatOf(
          weights.map((weight) => weight / largest),
          size,
        ),
      ),
      ...size,
      largest,
    };
  }
}

/** Softmax of one query (C) over the keys (1, H, W, C), its mean over the heads: (H W). */
function attentionOf(query: Float32Array, { data, shape }: Values, heads: number): Float32Array {
  const [, height, width, channels] = shape;
  const perHead = channels / heads;
  const mean = new Float32Array(height * width);
  for (let head = 0; head < heads; head++) {
    const scores = mean.map((_, i) => {
      let score = 0;
      for (let c = head * perHead; c < (head + 1) * perHead; c++) score += query[c] * data[i * channels + c];
      return score / Math.sqrt(perHead);
    });
    const most = scores.reduce((a, b) => Math.max(a, b));
    const powers = scores.map((score) => Math.exp(score - most));
    const sum = powers.reduce((a, b) => a + b);
    for (let i = 0; i < mean.length; i++) mean[i] += powers[i] / sum / heads;
  }
  return mean;
}

/** Milliseconds of the whole run by block, from the adapter's timestamps; empty where it has none. */
function timesByBlock({ profile }: Recording, networks: object): Record<string, number> {
  const known = places(networks);
  const times: Record<string, number> = {};
  for (const { dispatch, begin, end } of profile.dispatches) {
    const block = dispatch.module && known.get(dispatch.module)?.block;
    if (block && begin !== null && end !== null) times[block] = (times[block] ?? 0) + Number(end - begin) / 1e6;
  }
  return times;
}

/** Of a step, from 1 on; the last one where the run was shorter. */
function at(steps: readonly Step[], step: number): Step {
  return steps[Math.min(step, steps.length) - 1];
}

/** The last image of a batch (N, H, W, C): with guidance that of the positive branch. */
function lastOf({ data, shape: [n, ...rest] }: Values): Values {
  const size = data.length / n;
  return { data: data.slice((n - 1) * size), shape: [1, ...rest] };
}

function dropOldest(steps: Map<string, Values>[]): void {
  const bytes = (step: Map<string, Values>) => [...step.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
  let total = steps.reduce((sum, step) => sum + bytes(step), 0);
  for (let i = 0; i < steps.length - 1 && total > ATTENTION_BYTES; i++) {
    total -= bytes(steps[i]);
    steps[i].clear();
  }
}

function rootMeanSquare({ data }: Values): number {
  let sum = 0;
  for (const value of data) sum += value * value;
  return Math.sqrt(sum / data.length);
}
