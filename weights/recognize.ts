/** Says what a file of weights is from the names and shapes in it, never from its own name. */
import { UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import { COMPONENT_NAMES, COMPONENTS, type Component, componentOf, isIgnored, type LayoutName, layoutsOf } from './layouts.ts';
import { elementCount, type TensorFile } from './tensor-file.ts';
import { toSingle } from './translate.ts';

/** One component of a file. */
export interface Part {
  component: Component;
  layout: LayoutName;
  tensors: number;
  parameters: number;
  /** Names of the dtypes, the most frequent first. */
  dtypes: string[];
}

export interface Recognized {
  /** What it is, e.g. "SDXL checkpoint"; fits after "is a". */
  title: string;
  /** Why it cannot be part of a model, and what to do instead; null if it can. */
  refusal: string | null;
  /** Which refusal it is, where front ends have more to say about it. */
  code?: string;
  parts: Part[];
  /** Tensors that no component has, and that are not passed over by name. */
  unknown: string[];
  /** The file under the single file's names. */
  model: TensorFile;
}

/** Names of a model's parts, in every layout. */
const MODEL =
  /^((model\.)?(diffusion_model|control_model)|first_stage_model|conditioner\.embedders|denoise_encoder|project_modules|(encoder|decoder)\.(mid|mid_block|down|up)|down_blocks\.\d+\.resnets|text_model\.encoder|transformer\.resblocks|(input|output)_blocks)\./;

/** Names of SDXL's text encoders, which other versions of Stable Diffusion do not have. */
const SDXL_TEXT = /^conditioner\.embedders\.(0\.transformer|1\.model)\./;

/**
 * Files that are something else, by marks among their names; the first that fits counts. It does where the marks are more than the names that speak
 * against it: a key that a conversion left behind makes a model nothing else.
 */
const FOREIGN: readonly { title: string; marks: RegExp; against: RegExp | null; refusal: string; code?: string }[] = [
  {
    title: 'LoRA',
    marks: /(^|[._])lora_(up|down|A|B|unet|te\d?)([._]|$)|\.lora\.(up|down)\.|\.(hada_w\d|lokr_w\d)|\.dora_scale$/,
    against: MODEL,
    code: 'is-lora',
    refusal: 'It changes a model and is none by itself: apply it to the checkpoint of SDXL that it was made for.',
  },
  {
    title: 'ControlNet',
    marks: /(^|\.)zero_convs\.|^controlnet_(cond|down|mid)/,
    against: /^(model\.diffusion_model\.|diffusion_model\.)?output_blocks\./,
    refusal: "SUPIR brings a control network of its own and takes no other: use SUPIR's file.",
  },
  {
    title: 'set of LPIPS weights',
    marks: /^(lin\d\.model\.1\.weight|lins\.\d\.|net\.slice\d\.)/,
    against: MODEL,
    refusal: 'They compare images in training and measurement; a restoration does not need them.',
  },
  {
    title: 'text embedding (textual inversion)',
    marks: /^(clip_[lg]|emb_params|string_to_param|string_to_token)$/,
    against: MODEL,
    refusal: 'Embeddings are not supported: leave it out.',
  },
  {
    title: 'checkpoint of the SDXL refiner',
    marks: /^conditioner\.embedders\.0\.model\./,
    against: SDXL_TEXT,
    refusal: 'SUPIR was trained for the SDXL base model: use sd_xl_base_1.0_0.9vae.safetensors or a fine-tune of it.',
  },
  {
    title: 'checkpoint of Stable Diffusion 2',
    marks: /^cond_stage_model\.model\./,
    against: SDXL_TEXT,
    refusal: 'SUPIR needs SDXL, another architecture: use sd_xl_base_1.0_0.9vae.safetensors or a fine-tune of it.',
  },
  {
    title: 'checkpoint of Stable Diffusion 1.5',
    marks: /^cond_stage_model\.transformer\./,
    against: SDXL_TEXT,
    refusal: 'SUPIR needs SDXL, another architecture: use sd_xl_base_1.0_0.9vae.safetensors or a fine-tune of it.',
  },
  {
    title: 'checkpoint of SDXL for v-prediction',
    marks: /^(v_pred$|edm_vpred\.)/,
    against: null,
    refusal: 'SUPIR was trained for SDXL models that predict the noise (epsilon): use one of those.',
  },
  {
    title: 'diffusion transformer (Stable Diffusion 3, Flux or similar)',
    marks: /(^|\.)(joint_blocks|double_blocks|single_blocks|single_transformer_blocks)\.\d/,
    against: MODEL,
    refusal: 'SUPIR needs SDXL, another architecture: use sd_xl_base_1.0_0.9vae.safetensors or a fine-tune of it.',
  },
  {
    title: 'language model',
    marks: /^(model\.layers\.\d+\.self_attn|language_model\.|lm_head\.|model\.mm_projector)/,
    against: MODEL,
    code: 'is-captioner',
    refusal: 'It is no part of SUPIR; captions are given as text.',
  },
];

/** Recognises a file. Nothing but its index is read. */
export function recognize(file: TensorFile): Recognized {
  const names = file.names();
  const foreign = FOREIGN.find(({ marks, against }) => {
    const marked = names.filter((name) => marks.test(name));
    if (marked.length === 0 || !against) return marked.length > 0;
    return marked.length > names.filter((name) => against.test(name) && !marks.test(name)).length;
  });
  if (foreign) {
    const { title, refusal, code } = foreign;
    return { title, refusal, code, parts: [], unknown: [], model: file };
  }
  const layouts = layoutsOf(file);
  const rules = layouts.flatMap((layout) => layout.rules);
  const model = rules.length > 0 ? toSingle(file, rules) : file;
  const parts = partsOf(model).map((part) => ({ ...part, layout: layouts.find(({ component }) => component === part.component)!.name }));
  const unknown = model.names().filter((name) => !componentOf(name) && !isIgnored(name));
  const title = titleOf(parts);
  return { title, refusal: refusalOf(model, parts, unknown), parts, unknown, model };
}

function partsOf(model: TensorFile): Omit<Part, 'layout'>[] {
  const parts = new Map<Component, { tensors: number; parameters: number; dtypes: Map<string, number> }>();
  for (const name of model.names()) {
    const component = componentOf(name);
    if (!component) continue;
    const { dtype, shape } = model.info(name);
    const part = parts.get(component) ?? { tensors: 0, parameters: 0, dtypes: new Map() };
    parts.set(component, part);
    part.tensors++;
    part.parameters += elementCount(shape);
    part.dtypes.set(dtype, (part.dtypes.get(dtype) ?? 0) + 1);
  }
  return COMPONENT_NAMES.flatMap((component) => {
    const part = parts.get(component);
    if (!part) return [];
    const dtypes = [...part.dtypes].sort(([, a], [, b]) => b - a).map(([dtype]) => dtype);
    return [{ component, tensors: part.tensors, parameters: part.parameters, dtypes }];
  });
}

function titleOf(parts: readonly Part[]): string {
  const has = (...wanted: Component[]) => wanted.every((component) => parts.some((part) => part.component === component));
  const origins = new Set(parts.map(({ component }) => COMPONENTS[component].origin));
  if (origins.size === 2) return 'model of SDXL and SUPIR parts';
  if (has('control_model', 'project_modules', 'denoise_encoder')) return 'SUPIR checkpoint';
  if (has('unet', 'vae', 'clip_l', 'big_g')) return 'SDXL checkpoint';
  if (parts.length === 0) return 'file of unknown weights';
  const titles = parts.map(({ component }) => COMPONENTS[component].title);
  return origins.has('SUPIR') ? `part of a SUPIR checkpoint: ${titles.join(', ')}` : `part of an SDXL checkpoint: ${titles.join(', ')}`;
}

/** Reasons that only shapes tell. */
function refusalOf(model: TensorFile, parts: readonly Part[], unknown: readonly string[]): string | null {
  if (parts.length === 0) {
    const examples = unknown.slice(0, 3).map((name) => `"${name.slice(0, 80)}"`);
    return examples.length > 0
      ? `Its tensors, such as ${examples.join(', ')}, are those of no part of SDXL or SUPIR: is it the right file?`
      : 'There are no tensors in it: is it the right file?';
  }
  if (!parts.some(({ component }) => component === 'unet')) return null;
  const unet = COMPONENTS.unet.prefix;
  const cross = model.names().find((name) => name.startsWith(unet) && name.endsWith('attn2.to_k.weight'));
  const version = { 768: 'Stable Diffusion 1.5', 1024: 'Stable Diffusion 2' }[cross ? model.info(cross).shape[1] : 0];
  if (version && !model.has(`${unet}label_emb.0.0.weight`))
    return `Its UNet is that of ${version}: SUPIR needs SDXL, so use sd_xl_base_1.0_0.9vae.safetensors or a fine-tune of it.`;
  const first = `${unet}input_blocks.0.0.weight`;
  if (model.has(first) && model.info(first).shape[1] === 9)
    return 'Its UNet is one for inpainting, with 9 input channels: use a plain SDXL checkpoint.';
  return null;
}

/** @throws UserError naming the file and what to use instead, unless it can be part of a model. */
export function checkUsable(file: TensorFile, { title, refusal, code }: Recognized): void {
  if (refusal) throw new UserError(`${shown(file.name)} is a ${title}. ${refusal}`, { code, file: file.name });
}
