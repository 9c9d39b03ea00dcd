/**
 * How LoRA files name the layers they adapt: each program has a spelling of its own for the same weight. All spellings of a model's weights
 * are listed, and a name in a file is looked up. Dots and underscores are one: kohya writes underscores, some programs keep the last dot, and no
 * two weights differ by that alone.
 *   kohya     lora_unet_ and the single file's path or diffusers'; lora_te1_, lora_te2_ (Stable Diffusion 2: lora_te_) and Hugging Face's path
 *   LyCORIS   lycoris_ and diffusers' path
 *   PEFT      unet., text_encoder., text_encoder_2. and diffusers' path; also without a prefix, or with base_model.model.
 *   ComfyUI   diffusion_model. or unet. and the single file's path; text_encoders.clip_l.transformer. and Hugging Face's
 * The control network, which only this program adapts, is lora_control_ and control., with the single file's path.
 */
import type { Parameter } from '../core/module.ts';
import { clipRules, openClipRules, unetRules } from './diffusers.ts';
import { COMPONENTS } from './layouts.ts';
import type { Rule } from './translate.ts';

/** A weight, or one of several that lie one after the other in it along its first dimension (query, key and value of bigG). */
export interface LoraTarget {
  parameter: Parameter;
  /** Which part, of how many; 0 of 1 for a whole weight. */
  part: number;
  parts: number;
}

/** What a tensor of a LoRA file is to its layer. */
export type LoraRole = (typeof ROLES)[number][1];

/** PEFT may put the adapter's name behind the factor's: .lora_A.faces.weight. */
const ROLES = [
  [/\.lora_down\.weight$/, 'down'],
  [/\.lora_up\.weight$/, 'up'],
  [/\.lora_mid\.weight$/, 'mid'],
  [/\.lora_A(\.[^.]+)?\.weight$/, 'down'],
  [/\.lora_B(\.[^.]+)?\.weight$/, 'up'],
  [/\.lora\.down\.weight$/, 'down'],
  [/\.lora\.up\.weight$/, 'up'],
  [/\.lora_linear_layer\.down\.weight$/, 'down'],
  [/\.lora_linear_layer\.up\.weight$/, 'up'],
  [/_lora\.down\.weight$/, 'down'],
  [/_lora\.up\.weight$/, 'up'],
  // LyCORIS' may be of rows or columns, as its shape says; PEFT's is of rows.
  [/\.dora_scale$/, 'magnitude'],
  [/\.lora_magnitude_vector(\.[^.]+)?(\.weight)?$/, 'magnitudeOfRows'],
  [/\.alpha$/, 'alpha'],
  [/\.hada_w1_a(\.[^.]+)?$/, 'hada_w1_a'],
  [/\.hada_w1_b(\.[^.]+)?$/, 'hada_w1_b'],
  [/\.hada_w2_a(\.[^.]+)?$/, 'hada_w2_a'],
  [/\.hada_w2_b(\.[^.]+)?$/, 'hada_w2_b'],
  [/\.hada_t1(\.[^.]+)?$/, 'hada_t1'],
  [/\.hada_t2(\.[^.]+)?$/, 'hada_t2'],
  [/\.lokr_w1(\.[^.]+)?$/, 'lokr_w1'],
  [/\.lokr_w1_a(\.[^.]+)?$/, 'lokr_w1_a'],
  [/\.lokr_w1_b(\.[^.]+)?$/, 'lokr_w1_b'],
  [/\.lokr_w2(\.[^.]+)?$/, 'lokr_w2'],
  [/\.lokr_w2_a(\.[^.]+)?$/, 'lokr_w2_a'],
  [/\.lokr_w2_b(\.[^.]+)?$/, 'lokr_w2_b'],
  [/\.lokr_t2(\.[^.]+)?$/, 'lokr_t2'],
] as const;

/** Kinds of change that are known and not applied here, by marks in the names of their tensors. */
export const OTHER_KINDS: readonly { kind: string; marks: RegExp }[] = [
  { kind: 'changes of norms (w_norm, b_norm)', marks: /\.[wb]_norm$/ },
  { kind: 'orthogonal factors (OFT, BOFT)', marks: /\.b?oft_\w+(\.|$)/i },
  { kind: 'factors of GLoRA', marks: /\.[ab][12]\.weight$/ },
  { kind: 'scales of (IA)\u00b3', marks: /\.(on_input|ia3_l(\.[^.]+)?)$/ },
  { kind: 'whole differences (diff)', marks: /\.(diff|diff_b|set_weight)$/ },
  { kind: 'scales of VeRA', marks: /\.vera_lambda_[bd](\.|$)/ },
  { kind: 'changes of embeddings', marks: /\.lora_embedding_[AB](\.|$)/ },
  { kind: 'changes of biases', marks: /\.(lora_[AB](\.[^.]+)?|lora_down|lora_up)\.bias$|\.bias_(indices|values|size)$/ },
  { kind: 'whole layers (modules_to_save)', marks: /\.modules_to_save\./ },
];

/** Tensors beside a LoRA that are passed over, each with its reason. */
export const PASSENGERS: readonly { what: string; marks: RegExp }[] = [
  { what: 'embeddings of words, which are not supported', marks: /^bundle_emb\./ },
  {
    what: "changes of the text encoders' projections, which are not adapted here",
    marks: /^(lora_te[12]?_|text_encoder(_2)?\.|base_model\.model\.|text_encoders\.clip_[lg]\.(transformer\.)?)text_projection\./,
  },
];

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

/** The weights of a model by the names that LoRA files give them. */
export class LoraTargets {
  private readonly bySpelling = new Map<string, LoraTarget>();

  /** What a layer of a file is a change of; undefined if the model has no such layer. */
  get(layer: string): LoraTarget | undefined {
    return this.bySpelling.get(layer.replaceAll('.', '_'));
  }

  /** A path under each of the prefixes. */
  add(path: string, prefixes: readonly string[], target: LoraTarget): void {
    for (const prefix of prefixes) {
      const spelling = (prefix + path).replaceAll('.', '_');
      if (!this.bySpelling.has(spelling)) this.bySpelling.set(spelling, target);
    }
  }
}

/** The text tower of Stable Diffusion 2. */
const VIT_H = 'cond_stage_model.model';

/** Every spelling of every weight below a model that a LoRA can adapt: matrices and convolutions, by their single file's names. */
export function loraTargets(weights: Iterable<Parameter>): LoraTargets {
  const adaptable = [...weights].filter(({ kind, name }) => (kind === 'matrix' || kind === 'conv') && /[._]weight$/.test(name));
  const names = adaptable.map(({ name }) => name);
  const { unet, clip_l, big_g, control_model, project_modules } = COMPONENTS;
  const targets = new LoraTargets();
  const rules = { unet: unetRules(names), clip_l: clipRules(), big_g: openClipRules(names), vit_h: openClipRules(names, VIT_H) };
  for (const parameter of adaptable) {
    const whole = { parameter, part: 0, parts: 1 };
    const single = parameter.name.replace(/\.weight$/, '');
    if (single.startsWith(control_model.prefix)) {
      targets.add(single.slice(control_model.prefix.length), ['lora_control_', 'control.', 'control_model.'], whole);
    } else if (single.startsWith(unet.prefix)) {
      targets.add(
        single.slice(unet.prefix.length),
        ['lora_unet_', 'lycoris_', 'diffusion_model.', 'model.diffusion_model.', 'unet.'],
        whole,
      );
      if (single.startsWith(project_modules.prefix)) continue;
      const prefixes = ['lora_unet_', 'lycoris_', 'unet.', '', 'base_model.model.', 'unet.base_model.model.', 'base_model.model.unet.'];
      for (const other of others(single, rules.unet)) targets.add(other, prefixes, whole);
    } else if (single.startsWith(clip_l.prefix)) {
      for (const other of others(single, rules.clip_l)) targets.add(other, textPrefixes('lora_te1_', 'text_encoder', 'clip_l'), whole);
    } else if (single.startsWith(`${VIT_H}.`)) {
      others(single, rules.vit_h).forEach((other, part, { length }) => {
        const prefixes = [...textPrefixes('lora_te_', 'text_encoder', 'clip_h'), 'lora_te1_'];
        targets.add(other.replace(/\.weight$/, ''), prefixes, { parameter, part, parts: length });
      });
    } else if (single.startsWith(big_g.prefix)) {
      others(single, rules.big_g).forEach((other, part, { length }) => {
        const prefixes = textPrefixes('lora_te2_', 'text_encoder_2', 'clip_g');
        targets.add(other.replace(/\.weight$/, ''), prefixes, { parameter, part, parts: length });
      });
    }
  }
  return targets;
}

const textPrefixes = (kohya: string, diffusers: string, comfy: string): string[] => [
  kohya,
  `${diffusers}.`,
  `${diffusers}.base_model.model.`,
  `${comfy}.`,
  `text_encoders.${comfy}.transformer.`,
];

/** A path in the other layout; several where the other layout holds the weight in parts. */
function others(single: string, rules: readonly Rule[]): string[] {
  const rule = rules.find((each) => single === each.single || single.startsWith(`${each.single}.`));
  return rule ? [rule.other].flat().map((other) => other + single.slice(rule.single.length)) : [];
}
