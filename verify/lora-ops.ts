/** The golden operations of LoRA: one layer, DoRA, and files applied to UNet and text towers. Applied as the graph does it, and merged. */

import { decodeF16 } from '../core/half.ts';
import { parameters } from '../core/module.ts';
import { input, type Tensor } from '../core/tensor.ts';
import { Conv2d, Linear } from '../models/layers.ts';
import { adaptersOf, LoraStack } from '../models/lora.ts';
import { mergeLora } from '../models/lora-merge.ts';
import type { Supir } from '../models/supir.ts';
import { timestepEmbedding } from '../models/timestep-embedding.ts';
import { attach } from '../weights/attach.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import { type Lora, type LoraFile, readLora } from '../weights/lora.ts';
import type { Operation, Results, VerifyContext } from './context.ts';
import { type CaseEntry, toChannelsFirst, toChannelsLast } from './golden.ts';

/** Tensors of a checkpoint as a LoRA file, under the names that `rename` gives them. */
function fileOf(name: string, checkpoint: Checkpoint, rename: (key: string) => string | null = (key) => key): LoraFile {
  const keys = new Map(checkpoint.keys().flatMap((key) => (rename(key) === null ? [] : [[rename(key)!, key]])));
  return {
    name,
    names: () => [...keys.keys()],
    info: (key) => ({ ...checkpoint.info(keys.get(key)!), name: key }),
    f32: (key) => checkpoint.f32(keys.get(key)!),
  };
}

const weightsOf = (module: object) => [...parameters(module)].map(([, parameter]) => parameter);

/** One adapted layer: plain, adapted as a graph, and its merged weight. */
async function layer(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { config, weights } = entry;
  const shape = weights!.tensors!.weight.shape;
  const [outs, ins, window] = shape;
  const module = {
    layer:
      window === undefined ? new Linear(ins, outs) : new Conv2d(ins, outs, window, { stride: config.layer?.includes('stride2') ? 2 : 1 }),
  };
  const checkpoint = await context.folder.checkpoint(entry);
  // The layer's place in a network, so that the names of files find it.
  const prefix = 'model.diffusion_model.';
  attach(module.layer, weights!.prefix!, checkpoint, { dtype: 'f32' });
  module.layer.weight.name = `${prefix}layer.weight`;
  const base = `${weights!.prefix}`;
  const file = fileOf(entry.id, checkpoint, (key) => {
    const role = { lora_down: 'lora_down.weight', lora_up: 'lora_up.weight', dora_scale: 'dora_scale' }[key.slice(base.length)];
    return role === undefined ? null : `lora_unet_layer.${role}`;
  });
  const alpha: LoraFile = {
    ...file,
    names: () => [...file.names(), 'lora_unet_layer.alpha'],
    info: (key) => (key.endsWith('.alpha') ? { name: key, dtype: 'F32', shape: [], begin: 0, end: 4 } : file.info(key)),
    f32: async (key) => (key.endsWith('.alpha') ? Float32Array.of(config.alpha) : file.f32(key)),
  };
  const lora = await readLora(alpha, [module.layer.weight]);
  const scale: number = config.scale ?? config.strength;

  const golden = await context.input(entry, 'x');
  const { data, shape: xShape } =
    window === undefined ? { data: Float32Array.from(golden.data), shape: golden.shape } : toChannelsLast(golden);
  const outputs = { base: module.layer.forward(input('x', xShape)) };
  const stack = new LoraStack([{ adapters: adaptersOf(lora), scale }]);
  try {
    const plain = await context.run(outputs, { x: data });
    const applied = await context.run(stack.apply(outputs), { x: data });
    const merged = mergeLora(context.device, [{ lora, scale }]);
    const weight = await module.layer.weight.source!.read();
    merged.undo(context.device);
    const place = (values: Float32Array) => (window === undefined ? values : toChannelsFirst(values, outputs.base.shape));
    return {
      base: place(plain.base),
      merged: place(applied.base),
      merged_weight: weight instanceof Uint16Array ? decodeF16(weight) : weight,
    };
  } finally {
    stack.release(context.device);
    context.device.residency.releaseAll(module);
  }
}

/** The case's files, read for the model. */
async function lorasOf(entry: CaseEntry, context: VerifyContext, supir: Supir): Promise<{ lora: Lora; scale: number }[]> {
  const files = entry.config.loras as [string, number][];
  return Promise.all(
    files.map(async ([part, scale]) => {
      const file = fileOf(part, await context.folder.modelCheckpoint(entry.weights!.model!, [part]));
      return { lora: await readLora(file, weightsOf(supir)), scale };
    }),
  );
}

async function run(
  entry: CaseEntry,
  context: VerifyContext,
  supir: Supir,
  graph: Record<string, Tensor>,
  values: Record<string, Float32Array | Uint32Array>,
) {
  const loras = await lorasOf(entry, context, supir);
  const stack = new LoraStack(loras.map(({ lora, scale }) => ({ adapters: adaptersOf(lora), scale })));
  try {
    return await context.run(stack.apply(graph), values);
  } finally {
    stack.release(context.device);
  }
}

async function loraUnet(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { networks: supir } = await context.model(entry);
  const values: Record<string, Float32Array> = {};
  const t: Record<string, Tensor> = {};
  for (const name of ['xt', 'context', 'y', 'hint']) {
    const golden = await context.input(entry, name);
    const { data, shape } =
      golden.shape.length === 4 ? toChannelsLast(golden) : { data: Float32Array.from(golden.data), shape: golden.shape };
    values[name] = data;
    t[name] = input(name, shape);
  }
  const timesteps = (await context.input(entry, 'timesteps')).data;
  const width = supir.config.unet.model_channels;
  values.timestep = timestepEmbedding(timesteps, width);
  const timestep = input('timestep', [timesteps.length, width]);
  const { diffusion_model, control_model } = supir.model;
  const features = control_model.forward(t.xt, t.hint, timestep, t.context, t.y);
  const graph = {
    eps_sdxl: diffusion_model.forward(t.xt, timestep, t.context, t.y, null),
    eps_supir: diffusion_model.forward(t.xt, timestep, t.context, t.y, { features, scale: entry.config.control_scale }),
  };
  const results = await run(entry, context, supir, graph, values);
  return Object.fromEntries(Object.entries(results).map(([name, data]) => [name, toChannelsFirst(data, graph.eps_sdxl.shape)]));
}

async function loraText(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { networks: supir } = await context.model(entry);
  const { tower1, tower2, eot } = supir.config.text;
  const [{ transformer }, { model }] = supir.conditioner.embedders;
  const [one, two] = [await context.input(entry, 'clip_l_tokens'), await context.input(entry, 'bigg_tokens')].map(({ data }) =>
    Array.from(data),
  );
  const graph = {
    hidden11: transformer.forward(input('one', [1, one.length, tower1.dim]), tower1.layer_index),
    ...model.forward(input('two', [1, two.length, tower2.dim]), input('eot', [1], 'u32')),
  };
  return run(entry, context, supir, graph, {
    one: await transformer.tokenTable.source!.readRows(one),
    two: await model.tokenTable.source!.readRows(two),
    eot: Uint32Array.of(two.indexOf(eot)),
  });
}

export const loraOperations: Record<string, Operation> = {
  lora_layer: layer,
  dora_linear: layer,
  lora_unet: loraUnet,
  lora_text: loraText,
};
