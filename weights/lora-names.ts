/**
 * How LoRA files name the layers they adapt: each program has a spelling of its own for the same weight. All spellings of a model's weights
 * are listed, and a name in a file is looked up; nothing is guessed from underscores.
 *   kohya     lora_unet_ and the single file's path or diffusers', dots as underscores; lora_te1_, lora_te2_ and Hugging Face's path
 *   PEFT      unet., text_encoder., text_encoder_2. and diffusers' path; also without a prefix, or with base_model.model.
 *   ComfyUI   diffusion_model. and the single file's path
 * The control network, which only this program adapts, is lora_control_ and control., with the single file's path.
 */
import type { Parameter } from '../core/module.ts';
import { bigGRules, clipRules, unetRules } from './diffusers.ts';
import { COMPONENTS } from './layouts.ts';
import type { Rule } from './translate.ts';

/** A weight, or one of several that lie one behind the other in it along its first dimension (query, key and value of bigG). */
export interface LoraTarget {
  parameter: Parameter;
  /** Which part, of how many; 0 of 1 for a whole weight. */
  part: number;
  parts: number;
}

/** What a tensor of a LoRA file is to its layer. */
export type LoraRole = (typeof ROLES)[number][1];

const ROLES = [
  [/\.lora_down\.weight$/, 'down'],
  [/\.lora_up\.weight$/, 'up'],
  [/\.lora_mid\.weight$/, 'mid'],
  [/\.lora_A(\.default(_\d+)?)?\.weight$/, 'down'],
  [/\.lora_B(\.default(_\d+)?)?\.weight$/, 'up'],
  [/\.lora\.down\.weight$/, 'down'],
  [/\.lora\.up\.weight$/, 'up'],
  [/\.lora_linear_layer\.down\.weight$/, 'down'],
  [/\.lora_linear_layer\.up\.weight$/, 'up'],
  [/_lora\.down\.weight$/, 'down'],
  [/_lora\.up\.weight$/, 'up'],
  [/\.dora_scale$/, 'magnitude'],
  [/\.lora_magnitude_vector(\.default(_\d+)?)?(\.weight)?$/, 'magnitude'],
  [/\.alpha$/, 'alpha'],
  [/\.hada_w1_a$/, 'hada_w1_a'],
  [/\.hada_w1_b$/, 'hada_w1_b'],
  [/\.hada_w2_a$/, 'hada_w2_a'],
  [/\.hada_w2_b$/, 'hada_w2_b'],
  [/\.hada_t1$/, 'hada_t1'],
  [/\.hada_t2$/, 'hada_t2'],
  [/\.lokr_w1$/, 'lokr_w1'],
  [/\.lokr_w1_a$/, 'lokr_w1_a'],
  [/\.lokr_w1_b$/, 'lokr_w1_b'],
  [/\.lokr_w2$/, 'lokr_w2'],
  [/\.lokr_w2_a$/, 'lokr_w2_a'],
  [/\.lokr_w2_b$/, 'lokr_w2_b'],
  [/\.lokr_t2$/, 'lokr_t2'],
] as const;

/** The layer's spelling and the tensor's role; null for a name that is no LoRA tensor's. */
export function parseLoraKey(key: string): { layer: string; role: LoraRole } | null {
  for (const [pattern, role] of ROLES) {
    const match = pattern.exec(key);
    if (match) return { layer: plainLayer(key.slice(0, match.index)), role };
  }
  return null;
}

/** Older versions of diffusers name the attention's processor instead of its layer: attn1.processor.to_q, attn1.processor.to_out. */
function plainLayer(layer: string): string {
  return layer.replace(/\.processor\.(to_[qkv])$/, '.$1').replace(/\.processor\.to_out$/, '.to_out.0');
}

/** Every spelling of every weight below a model that a LoRA can adapt: matrices and convolutions, by their single file's names. */
export function loraTargets(weights: Iterable<Parameter>): Map<string, LoraTarget> {
  const adaptable = [...weights].filter(({ kind, name }) => (kind === 'matrix' || kind === 'conv') && /[._]weight$/.test(name));
  const names = adaptable.map(({ name }) => name);
  const { unet, clip_l, big_g, control_model, project_modules } = COMPONENTS;
  const targets = new Map<string, LoraTarget>();
  const add = (spelling: string, target: LoraTarget) => {
    if (!targets.has(spelling)) targets.set(spelling, target);
  };
  /** A path under kohya's prefix, and dotted under each of the others. */
  const spell = (path: string, kohya: string, dotted: string[], target: LoraTarget) => {
    add(kohya + path.replaceAll('.', '_'), target);
    for (const prefix of dotted) add(prefix + path, target);
  };
  const rules = { unet: unetRules(names), clip_l: clipRules(), big_g: bigGRules(names) };
  for (const parameter of adaptable) {
    const whole = { parameter, part: 0, parts: 1 };
    const single = parameter.name.replace(/\.weight$/, '');
    if (single.startsWith(control_model.prefix)) {
      spell(single.slice(control_model.prefix.length), 'lora_control_', ['control.', 'control_model.'], whole);
    } else if (single.startsWith(unet.prefix)) {
      spell(single.slice(unet.prefix.length), 'lora_unet_', ['diffusion_model.', 'model.diffusion_model.'], whole);
      if (single.startsWith(project_modules.prefix)) continue;
      for (const other of others(single, rules.unet)) spell(other, 'lora_unet_', ['unet.', '', 'base_model.model.'], whole);
    } else if (single.startsWith(clip_l.prefix)) {
      for (const other of others(single, rules.clip_l)) spell(other, 'lora_te1_', ['text_encoder.'], whole);
    } else if (single.startsWith(big_g.prefix)) {
      others(single, rules.big_g).forEach((other, part, { length }) => {
        spell(other.replace(/\.weight$/, ''), 'lora_te2_', ['text_encoder_2.'], { parameter, part, parts: length });
      });
    }
  }
  return targets;
}

/** A path in the other layout; several where the other layout holds the weight in parts. */
function others(single: string, rules: readonly Rule[]): string[] {
  const rule = rules.find((each) => single === each.single || single.startsWith(`${each.single}.`));
  return rule ? [rule.other].flat().map((other) => other + single.slice(rule.single.length)) : [];
}
