/**
 * States that a program goes on from, as safetensors files with a checksum of all that they hold in the header: a flipped bit, a changed number or
 * zeros are told when they are read, and do not become another result in silence.
 */
import { sha256 } from '../core/digest.ts';
import { UserError } from '../core/errors.ts';
import { encodeSafetensors } from './safetensors-writer.ts';
import type { TensorFile } from './tensor-file.ts';

const KEY = 'sha256';

type Tensors = Readonly<Parameters<typeof encodeSafetensors>[0]>;

/** As `encodeSafetensors`, sealed. */
export async function encodeSealed(tensors: Tensors, metadata: Readonly<Record<string, string>>): Promise<Uint8Array<ArrayBuffer>> {
  const lines: string[] = [];
  for (const [name, { dtype, shape, data }] of tensors)
    lines.push(await line(name, dtype, shape, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)));
  return encodeSafetensors(tensors, { ...metadata, [KEY]: await sealOf(lines, Object.entries(metadata)) });
}

/** Throws UserError where the file is not as it was sealed, or never was. */
export async function checkSeal(file: TensorFile): Promise<void> {
  const lines: string[] = [];
  for (const name of file.names()) {
    const { dtype, shape } = file.info(name);
    lines.push(await line(name, dtype, shape, await file.bytes(name)));
  }
  const { [KEY]: seal, ...metadata } = Object.fromEntries(file.metadata);
  if (seal !== (await sealOf(lines, Object.entries(metadata)))) throw new UserError(`${file.name} does not agree with its checksum.`);
}

const line = async (name: string, dtype: string, shape: readonly number[], bytes: Uint8Array): Promise<string> =>
  JSON.stringify([name, dtype, shape, await sha256(bytes)]);

function sealOf(tensors: string[], metadata: [string, string][]): Promise<string> {
  return sha256([...tensors.sort(), ...metadata.map((entry) => JSON.stringify(entry)).sort()].join('\n'));
}
