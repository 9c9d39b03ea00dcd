/**
 * Files of weights -> one checkpoint, whichever of them holds what. "Which file goes where" is answered by their contents; what is missing or of no
 * use is an error that names the file to add or to leave out.
 */
import { UserError } from '../core/errors.ts';
import { Checkpoint } from './checkpoint.ts';
import { type FolderAccess, openFolder } from './folder.ts';
import { COMPONENT_NAMES, COMPONENTS, type Component, componentOf } from './layouts.ts';
import { checkUsable, type Part, type Recognized, recognize } from './recognize.ts';
import type { TensorFile } from './tensor-file.ts';

/** Which file each component is taken from; undefined where no file holds it. */
export type Sources = Partial<Record<Component, Recognized>>;

/** What to look for when a component is missing. */
const ORIGINS = {
  SDXL: 'an SDXL checkpoint, such as sd_xl_base_1.0_0.9vae.safetensors, Juggernaut XL or an SDXL-Lightning full model',
  SUPIR: 'a SUPIR checkpoint, such as SUPIR-v0Q.ckpt (quality) or SUPIR-v0F.ckpt (fidelity to lightly damaged photos)',
} as const;

/**
 * Joins files in load order: where two hold the same tensor, the later one counts, so a UNet or VAE of its own may follow a full checkpoint.
 * @throws UserError for a file that is no part of a model, a file of which nothing would be used, and components that no file holds.
 */
export function openModelFiles(files: readonly TensorFile[]): Checkpoint {
  const recognized = files.map(recognize);
  for (const [i, found] of recognized.entries()) checkUsable(files[i], found);
  checkUse(recognized);
  const sources = sourcesOf(recognized);
  const missing = describeMissing(sources);
  if (missing) throw new UserError(missing);
  return new Checkpoint(recognized.map(({ model }) => model));
}

/**
 * The checkpoint of a folder. Files that are no part of a model (LoRA and others) are left aside.
 * @throws UserError as openModelFiles, and where two files hold the same component, because a folder has no order.
 */
export async function openModelFolder(access: FolderAccess, path: string): Promise<Checkpoint> {
  const files = await openFolder(access, path);
  const usable = files.filter((file) => !recognize(file).refusal);
  for (const file of files) if (!usable.includes(file)) await file.close?.();
  if (usable.length === 0) return openModelFiles(files);
  const holders = new Map<Component, string>();
  for (const file of usable) {
    for (const { component } of recognize(file).parts) {
      const other = holders.get(component);
      if (other !== undefined)
        throw new UserError(
          `${path} holds the ${COMPONENTS[component].title} twice, in ${other} and in ${file.name}: name the files to use one by one, or move one of them away.`,
        );
      holders.set(component, file.name);
    }
  }
  return openModelFiles(usable);
}

/** The last file that holds each component. */
export function sourcesOf(recognized: readonly Recognized[]): Sources {
  const sources: Sources = {};
  for (const found of recognized) for (const { component } of found.parts) sources[component] = found;
  return sources;
}

/** Says which components are missing and what to add; undefined if there is nothing missing. */
export function describeMissing(sources: Sources): string | undefined {
  const missing = COMPONENT_NAMES.filter((component) => !sources[component]);
  const given = [...new Set(Object.values(sources).map(({ model }) => model.name))].join(', ');
  const sentences = (['SDXL', 'SUPIR'] as const).flatMap((origin) => {
    const lacking = missing.filter((component) => COMPONENTS[component].origin === origin);
    if (lacking.length === 0) return [];
    const all = COMPONENT_NAMES.every((component) => COMPONENTS[component].origin !== origin || lacking.includes(component));
    const what = all
      ? `the ${origin} model is missing`
      : `of the ${origin} model there is no ${lacking.map((c) => COMPONENTS[c].title).join(', no ')}`;
    return [`${what}: add ${ORIGINS[origin]}${all ? '' : ', before the others'}`];
  });
  if (sentences.length === 0) return undefined;
  return `With ${given || 'no files'} ${sentences.join('; ')}.`;
}

/** Refuses a file all of whose tensors are replaced by later files: giving it cannot have been meant. */
function checkUse(recognized: readonly Recognized[]): void {
  const last = new Map<string, Recognized>();
  for (const found of recognized) for (const name of found.model.names()) if (componentOf(name)) last.set(name, found);
  const used = new Set(last.values());
  for (const found of recognized) {
    if (used.has(found)) continue;
    const example = found.model.names().find((name) => componentOf(name))!;
    const instead = last.get(example)!.model.name;
    const isSupir = found.parts.some(({ component }) => component === 'control_model');
    const advice = isSupir
      ? 'Give one SUPIR checkpoint: v0Q restores badly damaged photos best, v0F stays closer to lightly damaged ones.'
      : 'Leave it out, or give it after the other.';
    throw new UserError(
      `Nothing of ${found.model.name} would be used: everything in it is in ${instead} too, which comes later. ${advice}`,
    );
  }
}

/** What to do with a file of some parts of the model, in a sentence. */
export function partsAdvice(parts: readonly Part[]): string {
  const has = (component: Component) => parts.some((part) => part.component === component);
  const isSdxl = (['unet', 'vae', 'clip_l', 'big_g'] as const).every(has);
  const isSupir = (['control_model', 'project_modules', 'denoise_encoder'] as const).every(has);
  if (isSdxl && isSupir) return 'It restores by itself.';
  if (isSdxl) return 'Combine it with a SUPIR checkpoint (SUPIR-v0Q or SUPIR-v0F).';
  if (isSupir) return 'Combine it with an SDXL checkpoint (sd_xl_base_1.0_0.9vae or a fine-tune).';
  const note =
    has('vae') && parts.length === 1
      ? " Whether a VAE is SDXL's or that of Stable Diffusion 1.5 cannot be told: they differ in values only."
      : '';
  return `Give it after a full checkpoint, whose own it replaces: ${parts.map(({ component }) => COMPONENTS[component].title).join(', ')}.${note}`;
}
