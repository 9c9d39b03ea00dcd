/** What can be compared: the damaged photo as it is, what any method restores with any LoRA, settings and model, and what other programs made. */
import { sha256 } from '../core/digest.ts';
import { UserError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { decode } from '../image/decode.ts';
import { PHOTO_NAME } from '../image/photo-names.ts';
import { keyOf } from '../options/schema.ts';
import type { GivenOptions } from '../restore/choose-options.ts';
import { type AnyMethod, METHODS } from '../restore/methods.ts';
import { type LoraChoice, methodOf, Restorer } from '../restore/restorer.ts';
import type { Given, Kind } from '../restore/stage.ts';
import { SUPIR } from '../restore/supir.ts';
import { fingerprint } from '../weights/fingerprint.ts';
import { isWeights, openComponents } from '../weights/folder.ts';
import { openModelFolder } from '../weights/model-files.ts';
import { openTensorFile } from '../weights/open.ts';
import type { EvaluatedMethod } from './evaluate.ts';

/** Reduced photos have been enlarged by Pillow's bicubic already: this is what doing nothing more gives. */
export const BICUBIC: EvaluatedMethod = { name: 'bicubic', restore: async (damaged) => damaged };

export interface RestoringMethod {
  name: string;
  /** Model folder. */
  model: string;
  loras?: readonly LoraChoice[];
  /** How to restore; SUPIR where it is left out. */
  method?: AnyMethod;
  /** Settings of the restoration; SUPIR's stage1Only for stage 1 alone. */
  options?: GivenOptions | (Given<Kind> & { prompt?: string });
}

/** Of what a model folder holds, to know it again: weights, sizes and tokenizer. Throws UserError where it is no model. */
export async function modelIdentity(host: Host, folder: string): Promise<string> {
  const printOf = async (path: string) => {
    const file = await openTensorFile(await host.fileSource(path));
    return fingerprint(file).finally(() => file.close?.());
  };
  if (isWeights(folder)) return printOf(folder);
  const names = await host.list(folder);
  if (!names.includes('config.json')) {
    if ((await methodOf(METHODS, host, folder)) !== SUPIR) {
      const prints = await Promise.all(names.filter(isWeights).map((name) => printOf(`${folder}/${name}`)));
      for (const file of await openComponents(host, folder)) prints.push(await fingerprint(file).finally(() => file.close?.()));
      return sha256(prints.join('\n'));
    }
    const checkpoint = await openModelFolder(host, folder);
    return fingerprint(checkpoint).finally(() => checkpoint.close());
  }
  const parts: string[] = [];
  for (const name of names) {
    const path = `${folder}/${name}`;
    if (name.endsWith('.json')) parts.push(`${name} ${await sha256(await host.readFile(path))}`);
    if (!isWeights(name)) continue;
    const file = await openTensorFile(await host.fileSource(path));
    parts.push(`${name} ${await fingerprint(file)}`);
    await file.close?.();
  }
  return sha256(parts.join('\n'));
}

/**
 * Restores as `restore` does, with the photo's prompt. `weights`: the model's identity, where it is known already. Throws UserError for LoRA files and
 * models that cannot be read.
 */
export async function restoringMethod(
  host: Host,
  { name, model, loras = [], method = SUPIR, options = {} }: RestoringMethod,
  signal?: AbortSignal,
  weights?: string,
): Promise<EvaluatedMethod> {
  let loaded: Restorer<Kind> | null = null;
  const given = Object.entries(options).filter(
    ([key, value]) => (keyOf(method.options, key) !== undefined || key === 'preset') && value !== undefined,
  );
  const files: unknown[] = [];
  for (const { path, ...how } of loras) {
    const file = await openTensorFile(await host.fileSource(path));
    files.push({ ...how, fingerprint: await fingerprint(file) });
    await file.close?.();
  }
  return {
    name,
    identity: JSON.stringify({
      ...(method === SUPIR ? {} : { method: method.name }),
      model: weights ?? (await modelIdentity(host, model)),
      loras: files,
      options: Object.fromEntries(given),
    }),
    async open() {
      loaded = await Restorer.load(host, model, loras, { methods: [method] });
    },
    async restore(damaged, { name: photo, prompt }) {
      const text = keyOf(method.options, 'prompt') === undefined ? {} : { prompt: options.prompt ?? prompt };
      const { memory } = loaded!.device;
      memory.peak = memory.bytes;
      const { image } = await loaded!.restore(damaged, { ...options, ...text }, { name: photo, signal });
      return image;
    },
    peak: () => loaded!.device.memory.peak,
    async close() {
      await loaded?.close();
      loaded = null;
    },
  };
}

/** Another program's results: images in a folder, named as the photos. */
export async function folderMethod(host: Host, name: string, folder: string): Promise<EvaluatedMethod> {
  const names = await host.list(folder);
  return {
    name,
    async restore(_damaged, photo) {
      const file = names.find((each) => each.replace(/\.\w+$/, '') === photo.name && PHOTO_NAME.test(each));
      if (!file) throw new UserError(`${folder} holds no result for ${photo.name}: an image ${photo.name}.png is expected.`);
      return decode(await host.readFile(`${folder}/${file}`), `${folder}/${file}`);
    },
  };
}
