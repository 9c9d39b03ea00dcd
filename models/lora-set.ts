/** The LoRA files on a model: each is a handle, whose scale may change at any time, also between two steps. */

import { UserError } from '../core/errors.ts';
import type { Parameter } from '../core/module.ts';
import { type ScalarInput, sameShape, scalar, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import type { RunInputs } from '../gpu/program.ts';
import { type Lora, type LoraFile, type ReadLoraOptions, readLora } from '../weights/lora.ts';
import { type Adapter, adaptersOf, LoraStack } from './lora.ts';
import { type Merged, mergeLora } from './lora-merge.ts';
import { LoraScale, type LoraScaleText, loraBlock } from './lora-scale.ts';

/** A LoRA in force. */
export interface LoraHandle {
  readonly name: string;
  /** Whether it is in the weights themselves, with a scale that is fixed. */
  readonly isMerged: boolean;
  /** What of the file was passed over, or taken for granted: a sentence each. */
  readonly notes: readonly string[];
  /** Another scale acts from the next evaluation on. Setting it throws UserError for what is none, or where the LoRA was merged. */
  scale: LoraScaleText;
}

class Applied implements LoraHandle {
  readonly name: string;
  readonly notes: readonly string[];
  readonly isMerged = false;
  readonly adapters: Adapter[];
  /** The programs' scalar for each block that the file has layers in. */
  readonly scalars: ReadonlyMap<string, ScalarInput>;
  private now!: LoraScale;

  constructor(lora: Lora, number: number, scale: LoraScale) {
    [this.name, this.notes] = [lora.name, lora.notes];
    this.adapters = adaptersOf(lora);
    const blocks = new Set(this.adapters.map(({ parameter }) => loraBlock(parameter.name)));
    this.scalars = new Map([...blocks].sort().map((block) => [block, scalar(`lora.${number}.${block}`, 'seldom')]));
    this.take(scale);
  }

  get scale(): LoraScaleText {
    return this.now.text;
  }

  set scale(text: LoraScaleText) {
    this.take(new LoraScale(text));
  }

  /** Values for those of a program's scalars that are this one's. */
  inputs(scalars: ReadonlySet<string>, progress: number): RunInputs {
    const own = [...this.scalars].filter(([, { name }]) => scalars.has(name));
    return Object.fromEntries(own.map(([block, { name }]) => [name, this.now.at(block, progress)]));
  }

  private take(scale: LoraScale): void {
    const blocks = [...this.scalars.keys()];
    const idle = scale.idleAmong(blocks);
    if (idle !== undefined)
      throw new UserError(`${this.name} has no layer in the block '${idle}'; it has layers in: ${blocks.join(', ')}.`);
    this.now = scale;
  }
}

class MergedHandle implements LoraHandle {
  readonly name: string;
  readonly notes: readonly string[];
  readonly isMerged = true;
  readonly lora: Lora;
  readonly fixed: LoraScale;

  constructor(lora: Lora, scale: LoraScale) {
    if (!scale.isFixed)
      throw new UserError(
        `A LoRA that is merged into the weights has one scale in all steps, not ${scale.text}. Give one number, or do not merge.`,
      );
    [this.name, this.notes] = [lora.name, lora.notes];
    this.lora = lora;
    this.fixed = scale;
  }

  get scale(): LoraScaleText {
    return this.fixed.text;
  }

  set scale(_: LoraScaleText) {
    throw new UserError(`${this.name} was merged into the weights; its scale is fixed.`);
  }
}

export class LoraSet implements Iterable<LoraHandle> {
  /** What graphs are changed by. */
  stack = new LoraStack([]);
  private handles: (Applied | MergedHandle)[] = [];
  private merged: Merged | null = null;
  private made = 0;

  /** In the order in which they were added. */
  [Symbol.iterator](): Iterator<LoraHandle> {
    return this.handles.values();
  }

  /**
   * Reads a file for the model with these weights and adds it as `add` does. Throws UserError as `readLora` and `add`, and changes nothing then.
   */
  async read(
    device: Device,
    file: LoraFile,
    weights: readonly Parameter[],
    scale: LoraScaleText = 1,
    merge = false,
    options: ReadLoraOptions = {},
  ): Promise<LoraHandle> {
    const parsed = new LoraScale(scale);
    const read = () => readLora(file, weights, options);
    const lora = await (this.merged ? this.merged.aside(read) : read());
    return this.add(device, withControl(lora, parsed, weights), parsed, merge);
  }

  /**
   * Adds a LoRA to those in force; programs made before do not know it. With `merge` the weights themselves are changed, which costs nothing at
   * run time and fixes the scale. Throws UserError for scales that are none, that name a block in which the file has no layer, or, to be
   * merged, that change over the steps; nothing has changed then.
   */
  add(device: Device, lora: Lora, scale: LoraScaleText | LoraScale = 1, merge = false): LoraHandle {
    const parsed = scale instanceof LoraScale ? scale : new LoraScale(scale);
    const handle = merge ? new MergedHandle(lora, parsed) : new Applied(lora, this.made++, parsed);
    this.change(device, [...this.handles, handle]);
    return handle;
  }

  /** Takes a LoRA off. */
  remove(device: Device, handle: LoraHandle): void {
    this.change(
      device,
      this.handles.filter((each) => each !== handle),
    );
  }

  /** A traced graph with the LoRAs applied; shapes and names stay. */
  apply<Outputs extends Record<string, Tensor>>(outputs: Outputs): Outputs {
    return this.stack.apply(outputs);
  }

  /** Values for those of a program's scalars that are ours; `progress` is 0 in the first step and 1 in the last. */
  inputs(scalars: ReadonlySet<string>, progress = 0): RunInputs {
    return Object.assign({}, ...this.handles.map((handle) => (handle instanceof Applied ? handle.inputs(scalars, progress) : {})));
  }

  /** Frees the adapters' GPU buffers. They are filled again when next needed. */
  release(device: Device): void {
    this.stack.release(device);
  }

  private change(device: Device, handles: (Applied | MergedHandle)[]): void {
    const [was, now] = [this.handles, handles].map((list) => list.filter((handle) => handle instanceof MergedHandle));
    if (was.length !== now.length) {
      this.merged?.undo(device);
      const toMerge = now.map(({ lora, fixed }) => ({ lora, scale: (weight: string) => fixed.at(loraBlock(weight)) }));
      this.merged = toMerge.length > 0 ? mergeLora(device, toMerge) : null;
    } else {
      this.stack.release(device);
      const applied = handles.filter((handle) => handle instanceof Applied);
      this.stack = new LoraStack(
        applied.map(({ adapters, scalars }) => ({ adapters, scale: (weight: string) => scalars.get(loraBlock(weight))! })),
      );
    }
    this.handles = handles;
  }
}

/**
 * A LoRA with its layers of the UNet's first half applied to the control network too, which has the same ones: for scales that name the block
 * control, and files that have no layers of their own there.
 */
export function withControl(lora: Lora, scale: LoraScale, weights: readonly Parameter[]): Lora {
  const [unet, control] = ['model.diffusion_model.', 'model.control_model.'];
  if (!scale.names('control') || lora.layers.some(({ parameter }) => parameter.name.startsWith(control))) return lora;
  const byName = new Map(weights.map((parameter) => [parameter.name, parameter]));
  const copies = lora.layers.flatMap((layer) => {
    const { name, shape } = layer.parameter;
    const twin = name.startsWith(unet) ? byName.get(control + name.slice(unet.length)) : undefined;
    return twin && sameShape(twin.shape, shape) ? [{ ...layer, parameter: twin }] : [];
  });
  return { ...lora, layers: [...lora.layers, ...copies] };
}
