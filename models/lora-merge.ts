/**
 * LoRAs merged into the weights: W + sum of scale (alpha / r) B A. What differs from applying them (lora.ts) is rounding: the sum is rounded
 * once to the weight's storage.
 */

import { ShapeError, UserError } from '../core/errors.ts';
import { decodeF16, encodeF16 } from '../core/half.ts';
import type { Parameter } from '../core/module.ts';
import type { ParameterSource } from '../core/parameter-source.ts';
import type { Device } from '../gpu/device.ts';
import { denseChange, type Lora, type LoraLayer } from '../weights/lora.ts';

/** A LoRA and its scale, everywhere alike or by the checkpoint key of the weight. */
export interface MergedLora {
  lora: Lora;
  scale: number | ((weight: string) => number);
}

/** Weights with LoRAs merged into them, until `undo` is called. */
export interface Merged {
  /** Runs `body` while the weights' values are read as they were before; what is on the GPU stays. */
  aside<T>(body: () => Promise<T>): Promise<T>;
  /** Gives the weights their own values back; on the GPU when they are next needed. */
  undo(device: Device): void;
}

/**
 * Adds LoRAs to the weights themselves: W + sum of scale (alpha / r) B A, computed in f64 and rounded once to the weight's storage. Costs
 * nothing at run time and cannot be changed while running. Throws UserError for weights without values.
 */
export function mergeLora(device: Device, loras: readonly MergedLora[]): Merged {
  const originals = new Map<Parameter, ParameterSource>();
  const changes = new Map<Parameter, { layer: LoraLayer; scale: number }[]>();
  for (const { lora, scale } of loras) {
    for (const layer of lora.layers) {
      const { parameter } = layer;
      const list = changes.get(parameter) ?? [];
      list.push({ layer, scale: typeof scale === 'number' ? scale : scale(parameter.name) });
      changes.set(parameter, list);
    }
  }
  for (const parameter of changes.keys()) {
    if (!parameter.source)
      throw new UserError(`The weight ${parameter.name} has no values to merge a LoRA into: attach a checkpoint first.`);
    originals.set(parameter, parameter.source);
  }
  for (const [parameter, list] of changes) {
    const source = originals.get(parameter)!;
    // Weights in blocks are rounded to blocks again, so blocks of the file are of no use.
    parameter.source = { read: async () => mergedValues(await source.read(), list), readRows: (rows) => source.readRows(rows) };
    device.residency.release(parameter);
  }
  return {
    async aside(body) {
      const merged = new Map([...originals.keys()].map((parameter) => [parameter, parameter.source]));
      for (const [parameter, source] of originals) parameter.source = source;
      try {
        return await body();
      } finally {
        for (const [parameter, source] of merged) parameter.source = source;
      }
    },
    undo(on) {
      for (const [parameter, source] of originals) {
        parameter.source = source;
        on.residency.release(parameter);
      }
      originals.clear();
    },
  };
}

function mergedValues(values: Awaited<ReturnType<ParameterSource['read']>>, list: { layer: LoraLayer; scale: number }[]) {
  if (values instanceof Uint32Array) throw new ShapeError('A weight of integers cannot take a LoRA.');
  const sum = Float64Array.from(values instanceof Uint16Array ? decodeF16(values) : values);
  for (const { layer, scale } of list) {
    const delta = denseChange(layer);
    const from = layer.part * delta.length;
    for (let i = 0; i < delta.length; i++) sum[from + i] += scale * delta[i];
  }
  return values instanceof Uint16Array ? encodeF16(sum) : Float32Array.from(sum);
}
