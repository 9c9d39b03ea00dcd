/** A model folder with some of its weights replaced: what training a part of a model makes. */
import { UserError } from '../core/errors.ts';
import { encodeF16 } from '../core/half.ts';
import { parseJsonBytes } from '../core/json.ts';
import type { Files } from '../host/host.ts';
import { parseModelFiles } from '../models/config.ts';
import { COMPONENTS, componentOf } from '../weights/layouts.ts';
import { openTensorFile } from '../weights/open.ts';
import { encodeSafetensors } from '../weights/safetensors-writer.ts';
import type { Weights } from './untrained.ts';

/**
 * Writes a whole model: `config`, the bytes of its config.json, the tokenizer beside it, and its weights in f16, each in the file that published models have it in.
 */
export async function writeNewModel(
  files: Files,
  to: string,
  config: Uint8Array<ArrayBuffer>,
  tokenizer: Uint8Array<ArrayBuffer>,
  weights: Weights,
): Promise<void> {
  const named = parseModelFiles(parseJsonBytes(config, 'config.json'), 'config.json');
  for (const [key, origin] of [
    ['sdxl', 'SDXL'],
    ['supir', 'SUPIR'],
  ] as const) {
    const tensors = [...weights].filter(([name]) => COMPONENTS[componentOf(name)!].origin === origin);
    const entries = tensors.map(([name, { shape, values }]) => [name, { dtype: 'F16' as const, shape, data: encodeF16(values) }] as const);
    await files.writeFileAtomic(`${to}/${named[key]}`, encodeSafetensors(entries, { format: 'pt' }));
  }
  await files.writeFileAtomic(`${to}/${named.tokenizer}`, tokenizer);
  await files.writeFileAtomic(`${to}/config.json`, config);
}

/**
 * Copies the folder `from`, of a config.json and the files that it names, to `to`, with these weights in place of its own, in the type of its file
 * where that is f16, else in f32. Throws UserError for folders of another kind and weights that none of its files holds under their names.
 */
export async function writeModelFolder(files: Files, from: string, to: string, weights: ReadonlyMap<string, Float32Array>): Promise<void> {
  if (!(await files.exists(`${from}/config.json`)))
    throw new UserError(`${from} has no config.json: give the trained file to the published model's files as the last one instead.`);
  const config = await files.readFile(`${from}/config.json`);
  const named = parseModelFiles(parseJsonBytes(config, `${from}/config.json`), 'config.json');
  const left = new Set(weights.keys());
  for (const key of ['sdxl', 'supir'] as const) {
    const file = await openTensorFile(await files.fileSource(`${from}/${named[key]}`));
    const tensors = await Promise.all(
      file.names().map(async (name) => {
        const { dtype, shape } = file.info(name);
        const values = weights.get(name);
        left.delete(name);
        if (!values) return [name, { dtype, shape, data: await file.bytes(name) }] as const;
        return [
          name,
          dtype === 'F16' ? { dtype, shape, data: encodeF16(values) } : { dtype: 'F32' as const, shape, data: values },
        ] as const;
      }),
    );
    await files.writeFileAtomic(`${to}/${named[key]}`, encodeSafetensors(tensors, Object.fromEntries(file.metadata)));
    await file.close?.();
  }
  if (left.size > 0) throw new UserError(`No file of ${from} holds ${[...left].slice(0, 3).join(', ')}.`);
  await files.writeFileAtomic(`${to}/${named.tokenizer}`, await files.readFile(`${from}/${named.tokenizer}`));
  await files.writeFileAtomic(`${to}/config.json`, config);
}
