/**
 * How strongly a LoRA file acts: everywhere alike, by block, and over the steps. A person writes
 *   0.8                 everywhere, in every step; 1 is as trained, 0 is off
 *   0.2..1              from 0.2 in the first step to 1 in the last, evenly
 *   0.8,0@text,1..0.5@unet.output
 *                       rules: the last that names a layer's block or one above it counts, and elsewhere a rule without a block, or 0
 * Blocks are text.1 and text.2 (the towers), unet.input.4, unet.middle, unet.output.0, unet.other, and the same below control. A rule for
 * control applies a file made for the UNet to the control network too.
 */
import { UserError } from '../core/errors.ts';

/** A number, or rules as above. */
export type LoraScaleText = number | string;

interface Rule {
  /** '' is everywhere. */
  block: string;
  from: number;
  to: number;
}

const NUMBER = String.raw`[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?`;
const RULE = new RegExp(String.raw`^(${NUMBER})(?:\.\.(${NUMBER}))?(?:@([a-z]+(?:\.\w+)*))?$`, 'i');
/** Letters of a rule at most: no block has a longer name. */
const LONGEST = 100;

export class LoraScale {
  /** As it was written. */
  readonly text: LoraScaleText;
  private readonly rules: readonly Rule[];

  /** Throws UserError for what is no scale, with an example. */
  constructor(text: LoraScaleText) {
    this.text = text;
    this.rules = String(text)
      .split(',')
      .map((part) => {
        const rule = part.trim();
        const [, from, to = from, block = ''] = (rule.length <= LONGEST && RULE.exec(rule)) || [];
        if (from === undefined || !Number.isFinite(Number(from)) || !Number.isFinite(Number(to)))
          throw new UserError(`'${shortened(rule)}' is no LoRA scale. Examples: 0.8 and 0.2..1 and 0.8,0@text.`);
        return { block, from: Number(from), to: Number(to) };
      });
  }

  /** In a block; `progress` is 0 in the first step and 1 in the last. */
  at(block: string, progress = 0): number {
    const rule = this.rules.findLast((each) => covers(each, block));
    return rule ? rule.from + (rule.to - rule.from) * progress : 0;
  }

  /** Whether it is the same in all steps. */
  get isFixed(): boolean {
    return this.rules.every(({ from, to }) => from === to);
  }

  /** Whether a rule names the network or a block of it. */
  names(network: string): boolean {
    return this.rules.some(({ block }) => block === network || block.startsWith(`${network}.`));
  }

  /** A block that a rule names and that is none of these, nor above one. */
  idleAmong(blocks: readonly string[]): string | undefined {
    return this.rules.find((rule) => !blocks.some((block) => covers(rule, block)))?.block;
  }
}

const covers = (rule: Rule, block: string) => rule.block === '' || block === rule.block || block.startsWith(`${rule.block}.`);

const shortened = (text: string) => (text.length > LONGEST ? `${text.slice(0, LONGEST)}...` : text);

/** The block of a weight by its checkpoint key. */
export function loraBlock(weight: string): string {
  const [, tower] = /^conditioner\.embedders\.(\d)\./.exec(weight) ?? [];
  if (tower !== undefined) return `text.${Number(tower) + 1}`;
  const [, network, part, index] = /^model\.(diffusion|control)_model\.(?:(input|middle|output)_blocks?\.(\d+)\.)?/.exec(weight) ?? [];
  const place = part === undefined ? 'other' : part === 'middle' ? part : `${part}.${index}`;
  return `${network === 'control' ? 'control' : 'unet'}.${place}`;
}
