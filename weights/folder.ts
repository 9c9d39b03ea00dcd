/** Folders of weights: diffusers' (unet/, vae/, text_encoder/, text_encoder_2/), one component of such a folder, or checkpoints side by side. */
import { UserError } from '../core/errors.ts';
import type { ByteSource } from './byte-source.ts';
import { openAll, openTensorFile } from './open.ts';
import { isShardIndex, openShards } from './shards.ts';
import type { TensorFile } from './tensor-file.ts';

/** Access to folders; hosts have it. */
export interface FolderAccess {
  fileSource(path: string): Promise<ByteSource>;
  /** Names of the files in a folder. @throws UserError if there is no such folder. */
  list(path: string): Promise<string[]>;
}

/** Subfolders of a diffusers folder that a restoration needs. */
const COMPONENT_FOLDERS = ['unet', 'vae', 'text_encoder', 'text_encoder_2'];

/** The names that diffusers and transformers give to the weights of one component, e.g. `diffusion_pytorch_model.fp16.safetensors`. */
const COMPONENT_FILE =
  /^(?:diffusion_pytorch_model|pytorch_model|model)(?:\.(?<variant>[\w-]+))?\.(?<format>safetensors|bin)(?:\.index(?:\.(?<indexVariant>[\w-]+))?\.json)?$/;

const WEIGHTS = /\.(safetensors|ckpt|pt|pth|bin)$/i;

/** Whether a file's name is one of weights. */
export const isWeights = (name: string): boolean => WEIGHTS.test(name);

/** Opens the components of a diffusers folder that are there, one file each. */
export async function openComponents(access: FolderAccess, path: string): Promise<TensorFile[]> {
  const paths: string[] = [];
  for (const folder of COMPONENT_FOLDERS) {
    const file = componentFile(await access.list(`${path}/${folder}`).catch(() => []));
    if (file) paths.push(`${folder}/${file}`);
  }
  return openAll(paths.map((file) => openWeights(access, `${path}/${file}`, file)));
}

/**
 * Opens the weights of a folder: of a diffusers folder those of every component, of others all files of weights. Where a component is there in several
 * forms, safetensors come before PyTorch's and full precision before variants.
 * `components` false looks at files alone, also where a diffusers folder is beside them. @throws UserError if there are none, or one of them is damaged.
 */
export async function openFolder(access: FolderAccess, path: string, components = true): Promise<TensorFile[]> {
  const names = await access.list(path);
  const paths: string[] = [];
  if (components && (names.includes('model_index.json') || !names.some(isWeights))) {
    const found = await openComponents(access, path);
    if (found.length > 0) return found;
  } else {
    const component = componentFile(names);
    const hasIndex = names.some(isShardIndex);
    const isWhole = (name: string) => isShardIndex(name) || (WEIGHTS.test(name) && !(hasIndex && /-\d{5}-of-\d{5}\./.test(name)));
    paths.push(...(component ? [component] : names.filter(isWhole)).map((name) => `${path}/${name}`));
  }
  if (paths.length === 0)
    throw new UserError(
      `There are no weights in ${path}: neither files such as .safetensors and .ckpt, nor the folders of a diffusers model.`,
    );
  return openAll(paths.map((file) => openWeights(access, file, file.slice(path.length + 1))));
}

/** Opens one file of weights, or all shards of an index; `name`, if given, is what messages call it. */
export async function openWeights(access: FolderAccess, path: string, name?: string): Promise<TensorFile> {
  const source = named(await access.fileSource(path), name);
  const folder = path.slice(0, path.lastIndexOf('/') + 1);
  return isShardIndex(path) ? openShards(source, (name) => access.fileSource(folder + name)) : openTensorFile(source);
}

/** A source under another name: many files of diffusers are called the same. */
function named(source: ByteSource, name = source.name): ByteSource {
  return { name, size: source.size, read: (...range) => source.read(...range), close: async () => source.close?.() };
}

function componentFile(names: readonly string[]): string | undefined {
  const rank = ({ variant, format, indexVariant }: Record<string, string | undefined>) =>
    (format === 'safetensors' ? 0 : 2) + (variant || indexVariant ? 1 : 0);
  return names
    .flatMap((name) => {
      const groups = COMPONENT_FILE.exec(name)?.groups;
      return groups ? [{ name, rank: rank(groups) }] : [];
    })
    .sort((a, b) => a.rank - b.rank)[0]?.name;
}
