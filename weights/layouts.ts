/** Which tensors the published checkpoints hold besides the model's own, and which file a tensor comes from: every name rule of a layout lives here. */

/** Tensors that are passed over by name, each with its reason. */
const IGNORED: readonly { pattern: RegExp; reason: string }[] = [
  { pattern: /^model\.control_model\.mask_LQ$/, reason: 'left over from training; no published network reads it' },
  { pattern: /\.position_ids$/, reason: 'the numbers 0 to 76, which older versions of transformers saved with the text encoders' },
  {
    pattern: /^conditioner\.embedders\.1\.model\.logit_scale$/,
    reason: "the temperature of CLIP's training loss; inference has no use for it",
  },
];

/** True for tensors a model does not have and a checkpoint may. */
export const isIgnored = (name: string): boolean => IGNORED.some(({ pattern }) => pattern.test(name));

const SUPIR_PREFIXES = /^(model\.control_model\.|model\.diffusion_model\.project_modules\.|first_stage_model\.denoise_encoder\.)/;

/** The file that a tensor of the joined checkpoint belongs to. */
export const originOf = (name: string): 'SUPIR' | 'SDXL' => (SUPIR_PREFIXES.test(name) ? 'SUPIR' : 'SDXL');
