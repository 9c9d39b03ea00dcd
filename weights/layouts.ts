/** What the published checkpoints hold: the components by the single file's names, the layouts they come in, and the tensors that are passed over. */
import { clipRules, openClipRules, unetRules, vaeRules } from './diffusers.ts';
import type { TensorFile } from './tensor-file.ts';
import type { Rule } from './translate.ts';

/** Tensors that are passed over by name, each with its reason. */
const IGNORED: readonly { pattern: RegExp; reason: string }[] = [
  { pattern: /^model\.control_model\.mask_LQ$/, reason: 'left over from training; no published network reads it' },
  { pattern: /\.position_ids$/, reason: 'the numbers 0 to 76, which older versions of transformers saved with the text encoders' },
  {
    pattern: /^conditioner\.embedders\.[01]\.((model|transformer)\.)?logit_scale$/,
    reason: "the temperature of CLIP's training loss; inference has no use for it",
  },
  { pattern: /^conditioner\.embedders\.1\.model\.attn_mask$/, reason: 'the causal mask, which follows from the length' },
  {
    pattern: /^conditioner\.embedders\.0\.(transformer\.)?text_projection(\.weight)?$/,
    reason: "CLIP-L's projection to the space of images; SDXL uses a hidden state instead",
  },
  { pattern: /^(first_stage_model\.)?model_ema\./, reason: 'a moving average kept by training' },
  { pattern: /^(global_step|epoch|iteration|step)$/, reason: 'how far training was' },
  { pattern: /^scale_factor$/, reason: "the latent's factor, which is known" },
  { pattern: /^cond_stage_model\./, reason: 'what a conversion left of a text encoder of Stable Diffusion 1 or 2' },
  { pattern: /^first_stage_model\.loss\./, reason: 'the loss that the autoencoder was trained with' },
  {
    pattern:
      /^(denoiser\.sigmas|betas|logvar|(log_|sqrt_)?(one_minus_|recip_|recipm1_)?alphas_cumprod(_prev)?|sqrt_(one_minus|recip|recipm1)_alphas_cumprod|posterior_\w+)$/,
    reason: 'the noise schedule, which is computed',
  },
];

/** True for tensors a model does not have and a checkpoint may. */
export const isIgnored = (name: string): boolean => IGNORED.some(({ pattern }) => pattern.test(name));

/** The parts of SUPIR, as files hold them together or apart. Order matters: a longer prefix comes before one that it begins with. */
export const COMPONENTS = {
  project_modules: { prefix: 'model.diffusion_model.project_modules.', origin: 'SUPIR', title: 'SUPIR project modules' },
  control_model: { prefix: 'model.control_model.', origin: 'SUPIR', title: 'SUPIR control network' },
  denoise_encoder: { prefix: 'first_stage_model.denoise_encoder.', origin: 'SUPIR', title: 'SUPIR encoder' },
  unet: { prefix: 'model.diffusion_model.', origin: 'SDXL', title: 'UNet' },
  vae: { prefix: 'first_stage_model.', origin: 'SDXL', title: 'VAE' },
  clip_l: { prefix: 'conditioner.embedders.0.transformer.', origin: 'SDXL', title: 'text encoder CLIP-L' },
  big_g: { prefix: 'conditioner.embedders.1.model.', origin: 'SDXL', title: 'text encoder OpenCLIP bigG' },
} as const;

export type Component = keyof typeof COMPONENTS;

export const COMPONENT_NAMES = Object.keys(COMPONENTS) as Component[];

/** The component that a tensor of the single file's names belongs to. */
export const componentOf = (name: string): Component | undefined =>
  isIgnored(name) ? undefined : COMPONENT_NAMES.find((component) => name.startsWith(COMPONENTS[component].prefix));

/** True for tensors that a checkpoint may hold beside a model: those that are passed over by name, and those of no component at all. */
export const isPassenger = (name: string): boolean => componentOf(name) === undefined;

/** The file that a tensor of the joined checkpoint belongs to. */
export const originOf = (name: string): 'SUPIR' | 'SDXL' => {
  const component = componentOf(name);
  return component ? COMPONENTS[component].origin : 'SDXL';
};

/** How a component is named in a file. */
export type LayoutName = 'single file' | 'without prefix' | 'diffusers' | 'Hugging Face' | 'OpenCLIP';

export interface FileLayout {
  component: Component;
  name: LayoutName;
  rules: Rule[];
}

/** Rules for tensors that lack the single file's prefix, or a part of it. */
const shortened = (single: string, paths: readonly string[], prefix = ''): Rule[] =>
  paths.map((path) => ({ single: `${single}.${path}`, other: prefix + path }));

const UNET_PATHS = ['time_embed', 'label_emb', 'input_blocks', 'middle_block', 'output_blocks', 'out'];
const VAE_PATHS = ['encoder', 'decoder', 'quant_conv', 'post_quant_conv'];

/** Which components a file holds, in which layout. */
export function layoutsOf(file: TensorFile): FileLayout[] {
  const names = file.names();
  const any = (pattern: RegExp) => names.some((name) => pattern.test(name));
  const layouts: FileLayout[] = [];
  const add = (component: Component, name: LayoutName, rules: Rule[] = []) => layouts.push({ component, name, rules });
  const present = new Set(names.map(componentOf));
  for (const component of COMPONENT_NAMES) if (present.has(component)) add(component, 'single file');

  for (const prefix of ['', 'diffusion_model.']) {
    if (names.some((name) => name.startsWith(`${prefix}project_modules.`)))
      add('project_modules', 'without prefix', shortened('model.diffusion_model', ['project_modules'], prefix));
    if (names.some((name) => name.startsWith(`${prefix}input_blocks.`)))
      add('unet', 'without prefix', shortened('model.diffusion_model', UNET_PATHS, prefix));
  }
  if (any(/^control_model\./)) add('control_model', 'without prefix', [{ single: 'model.control_model', other: 'control_model' }]);
  if (any(/^denoise_encoder\./)) add('denoise_encoder', 'without prefix', shortened('first_stage_model', ['denoise_encoder']));
  if (any(/^down_blocks\.\d+\.resnets\./)) add('unet', 'diffusers', unetRules(names));
  if (any(/^(encoder|decoder)\.(mid_block|down_blocks|up_blocks)\./)) add('vae', 'diffusers', vaeRules(names));
  else if (any(/^(encoder|decoder)\.mid\./)) add('vae', 'without prefix', shortened('first_stage_model', VAE_PATHS));
  if (any(/^text_model\.encoder\./)) {
    if (isBigG(file)) add('big_g', 'Hugging Face', openClipRules(names));
    else add('clip_l', 'Hugging Face', clipRules());
  }
  if (any(/^transformer\.resblocks\./)) {
    const paths = ['transformer', 'token_embedding', 'positional_embedding', 'ln_final', 'text_projection', 'logit_scale', 'attn_mask'];
    add('big_g', 'OpenCLIP', shortened('conditioner.embedders.1.model', paths));
  }
  return layouts;
}

/** Tells text encoders in Hugging Face's names apart: by width; of unknown width the one with a projection is bigG, as in text_encoder_2. */
function isBigG(file: TensorFile): boolean {
  const table = 'text_model.embeddings.token_embedding.weight';
  const width = file.has(table) ? file.info(table).shape[1] : 0;
  return width === 1280 || (width !== 768 && file.has('text_projection.weight'));
}
