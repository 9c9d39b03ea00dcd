/**
 * How strongly LoRA files act: everywhere alike, by block, and over the steps. A person writes
 *   0.8                 everywhere, in every step; 1 is as trained, 0 is off
 *   0.2..1              from 0.2 in the first step to 1 in the last, evenly
 *   0.8,0@text,1..0.5@unet.output
 *                       rules: the last that names a layer's block or one above it counts, and elsewhere a rule without a block, or 0
 * Blocks are text.1 and text.2 (the towers), unet.input.4, unet.middle, unet.output.0, unet.other, and the same below control. A rule for
 * control applies a file made for the UNet to the control network too.
 */

import { UserError } from '../core/errors.ts';
import type { Parameter } from '../core/module.ts';
import { type ScalarInput, sameShape, scalar } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import type { RunInputs } from '../gpu/program.ts';
import { type Adapter, adaptersOf, LoraStack } from '../models/lora.ts';
import type { Lora } from '../weights/lora.ts';

/** A number, or rules as above. */
export type LoraScaleText = number | string;

interface Rule {
  /** '' is everywhere. */
  block: string;
  from: number;
  to: number;
}

/** Throws UserError for what is no scale, with an example. */
export function parseLoraScale(text: LoraScaleText): Rule[] {
  const number = String.raw`[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?`;
  const rule = new RegExp(String.raw`^(${number})(?:\.\.(${number}))?(?:@([a-z]+(?:\.\w+)*))?$`, 'i');
  return String(text)
    .split(',')
    .map((part) => {
      const [, from, to = from, block = ''] = rule.exec(part.trim()) ?? [];
      if (from === undefined) throw new UserError(`'${part.trim()}' is no LoRA scale. Examples: 0.8 and 0.2..1 and 0.8,0@text.`);
      return { block, from: Number(from), to: Number(to) };
    });
}

/** The block of a weight by its checkpoint key. */
export function loraBlock(weight: string): string {
  const [, tower] = /^conditioner\.embedders\.(\d)\./.exec(weight) ?? [];
  if (tower !== undefined) return `text.${Number(tower) + 1}`;
  const [, network, part, index] = /^model\.(diffusion|control)_model\.(?:(input|middle|output)_blocks?\.(\d+)\.)?/.exec(weight) ?? [];
  const place = part === undefined ? 'other' : part === 'middle' ? part : `${part}.${index}`;
  return `${network === 'control' ? 'control' : 'unet'}.${place}`;
}

/**
 * A LoRA with its layers of the UNet's first half applied to the control network too, which has the same ones: for scales that name the block
 * control, and files that have no layers of their own there.
 */
export function withControl(lora: Lora, text: LoraScaleText, weights: readonly Parameter[]): Lora {
  const [unet, control] = ['model.diffusion_model.', 'model.control_model.'];
  const asked = parseLoraScale(text).some(({ block }) => block === 'control' || block.startsWith('control.'));
  if (!asked || lora.layers.some(({ parameter }) => parameter.name.startsWith(control))) return lora;
  const byName = new Map(weights.map((parameter) => [parameter.name, parameter]));
  const copies = lora.layers.flatMap((layer) => {
    const { name, shape } = layer.parameter;
    const twin = name.startsWith(unet) ? byName.get(control + name.slice(unet.length)) : undefined;
    return twin && sameShape(twin.shape, shape) ? [{ ...layer, parameter: twin }] : [];
  });
  return { ...lora, layers: [...lora.layers, ...copies] };
}

/** Scales by weight, for merging. Throws UserError as parseLoraScale, and for scales that change over the steps. */
export function fixedLoraScale(text: LoraScaleText): (weight: string) => number {
  const rules = parseLoraScale(text);
  if (rules.some(({ from, to }) => from !== to))
    throw new UserError(
      `A LoRA that is merged into the weights has one scale in all steps, not ${text}. Give one number, or do not merge.`,
    );
  return (weight) => rules.findLast((rule) => covers(rule, loraBlock(weight)))?.from ?? 0;
}

const covers = (rule: Rule, block: string) => rule.block === '' || block === rule.block || block.startsWith(`${rule.block}.`);

interface InForce {
  name: string;
  adapters: Adapter[];
  rules: Rule[];
  /** The program's scalar for each block that the file has layers in. */
  scalars: Map<string, ScalarInput>;
}

/** LoRA files in force, with scales that may change at any time, also between two steps. */
export class LoraScales {
  /** What networks are changed by. */
  stack = new LoraStack([]);
  private readonly list: InForce[] = [];

  /** Adds a file to those in force; programs made before do not know it. Throws UserError for scales that are none, or that name a block in which the file has no layer. */
  add(device: Device, lora: Lora, scale: LoraScaleText): void {
    const adapters = adaptersOf(lora);
    const blocks = new Set(adapters.map(({ parameter }) => loraBlock(parameter.name)));
    const scalars = new Map([...blocks].sort().map((block) => [block, scalar(`lora.${this.list.length}.${block}`)]));
    const added: InForce = { name: lora.name, adapters, rules: [], scalars };
    added.rules = rulesOf(added, scale);
    this.list.push(added);
    this.stack.release(device);
    this.stack = new LoraStack(
      this.list.map(({ adapters, scalars }) => ({ adapters, scale: (weight: string) => scalars.get(loraBlock(weight))! })),
    );
  }

  /** Frees the adapters' GPU buffers. They are filled again when next needed. */
  release(device: Device): void {
    this.stack.release(device);
  }

  /** Another scale for file number `index`, from the next evaluation on. Throws UserError as `add`. */
  set(index: number, scale: LoraScaleText): void {
    this.list[index].rules = rulesOf(this.list[index], scale);
  }

  /** Values for those of a program's scalars that are ours; `progress` is 0 in the first step and 1 in the last. */
  inputs(scalars: ReadonlySet<string>, progress = 0): RunInputs {
    const inputs: RunInputs = {};
    for (const { rules, scalars: own } of this.list) {
      for (const [block, { name }] of own) {
        const rule = rules.findLast((each) => covers(each, block));
        if (scalars.has(name)) inputs[name] = rule ? rule.from + (rule.to - rule.from) * progress : 0;
      }
    }
    return inputs;
  }
}

function rulesOf({ name, scalars }: InForce, scale: LoraScaleText): Rule[] {
  const rules = parseLoraScale(scale);
  const blocks = [...scalars.keys()];
  const idle = rules.find((rule) => !blocks.some((block) => covers(rule, block)));
  if (idle) throw new UserError(`${name} has no layer in the block '${idle.block}'; it has layers in: ${blocks.join(', ')}.`);
  return rules;
}
