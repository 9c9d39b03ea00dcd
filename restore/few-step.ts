/** Bases that were distilled to few steps ("Lightning"): what they want, and whether options suit them. They are told by their names. */
import type { Warning } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import type { SupirConfig } from '../models/config.ts';
import { chooseOptions } from './choose-options.ts';
import type { RestoreOptions } from './options.ts';
import { PRESETS, presetsOf, type Recommending } from './presets.ts';

/** File and model names of distilled few-step bases. */
const FEW_STEP = /lightning|turbo|hyper|lcm|dmd/i;

/** Steps that a distilled model was made for, where its file's name tells: sdxl_lightning_4step_lora.safetensors. */
const distilledSteps = (name: string): number | null => Number(/(\d+)[ _-]?steps?(?![a-z])/i.exec(name)?.[1] ?? 0) || null;

/** What a LoRA that distils SDXL to few steps recommends, as a config.json would; by its file's name, else undefined. (SDXL-Lightning, arXiv 2402.13929) */
export function recommendedByLora(name: string): SupirConfig['recommended'] {
  if (!/lightning/i.test(name)) return undefined;
  return { sampler: 'euler', steps: distilledSteps(name) ?? PRESETS.fast.values.steps, cfg: 1, cfg_start: 1 };
}

/**
 * Why the options do not suit the base model, or null. A base is taken to be distilled to few steps if its file or model name says so.
 * `baseNames`: the SDXL checkpoint's file name, the model's name, and the names of LoRA files in force. Only presets that the model has, and that suit
 * it, are advised.
 */
export function unsuitable(options: RestoreOptions, baseNames: readonly string[], config: Recommending): Warning | null {
  const problem = problemOf(options, baseNames);
  if (!problem) return null;
  const presets = Object.keys(presetsOf(config)).filter((preset) => !problemOf(chooseOptions({ preset }, config), baseNames));
  const advice = presets.length > 0 ? ` Take the preset ${presets.map((each) => shown(each)).join(' or ')}.` : '';
  return {
    ...problem,
    message: problem.message + (problem.code === 'steps-of-distillation' ? '' : advice),
    values: { ...problem.values, presets },
  };
}

function problemOf({ sampler, steps, cfg, cfgStart }: RestoreOptions, baseNames: readonly string[]): Warning | null {
  const fewStep = baseNames.find((name) => FEW_STEP.test(name));
  const made = fewStep === undefined ? null : distilledSteps(fewStep);
  const most = Math.max(cfg, cfgStart);
  if (fewStep !== undefined && (sampler === 'edm' || most > 3))
    return {
      code: 'overdriven',
      message: `${shown(fewStep)} looks like a distilled few-step base, and the sampler ${sampler} with a guidance scale of ${most} overdrives it.`,
    };
  if (fewStep !== undefined && made !== null && made !== steps)
    return {
      code: 'steps-of-distillation',
      option: 'steps',
      values: { steps: made },
      message: `${shown(fewStep)} was distilled to ${made} steps, and ${steps} were asked for: the result will be worse than with ${made} steps.`,
    };
  if (fewStep === undefined && sampler !== 'edm' && steps < 20)
    return {
      code: 'few-steps',
      message: `The sampler ${sampler} with ${steps} steps is for distilled few-step bases (Lightning), and ${shown(baseNames[0])} does not look like one.`,
    };
  return null;
}
