/** Weights named on the command line: files, folders, indices of shards, and web addresses of either. */
import { stat } from 'node:fs/promises';
import { InvalidArgumentError, Option } from 'commander';
import { host } from '../host/node.ts';
import { openFolder, openWeights } from '../weights/folder.ts';
import { httpSource } from '../weights/http-source.ts';
import type { TensorFile } from '../weights/tensor-file.ts';

/** --weights, of every command that runs networks. */
export function weightsOption(): Option {
  const text =
    'how matrices and convolutions lie in memory: f16, or rounded to blocks of 8 or 4 bits with a scale for 32 values (default: as the files hold them)';
  return new Option('--weights <dtype>', text).choices(['f16', 'q8', 'q4']);
}

/** --memory, of every command that runs networks; in GB. */
export function memoryOption(otherwise: string): Option {
  const text = `GPU memory that may be used, in GB; weights that do not fit leave when idle, or pass through at every step (default: ${otherwise})`;
  return new Option('--memory <GB>', text).argParser((given) => {
    const gigabytes = Number(given);
    if (!(gigabytes > 0)) throw new InvalidArgumentError('It must be a number above 0, such as 6.');
    return gigabytes;
  });
}

/** Opens weights in the order given; a folder yields all files in it. Throws UserError naming what cannot be opened. */
export async function openInputs(paths: readonly string[]): Promise<TensorFile[]> {
  const files: TensorFile[] = [];
  try {
    for (const path of paths) {
      if (/^https?:\/\//.test(path)) files.push(await openWeights(web, path));
      else if (await isFolder(path)) files.push(...(await openFolder(host, path)));
      else files.push(await openWeights(host, path));
    }
    return files;
  } catch (error) {
    for (const file of files) await file.close?.();
    throw error;
  }
}

const web = {
  fileSource: (url: string) => httpSource(url),
  list: async () => [],
};

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isDirectory() ?? false;
}
