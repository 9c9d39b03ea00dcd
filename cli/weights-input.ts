/** Weights named on the command line: files, folders, indices of shards, and web addresses of either. */
import { stat } from 'node:fs/promises';
import { host } from '../host/node.ts';
import { openFolder, openWeights } from '../weights/folder.ts';
import { httpSource } from '../weights/http-source.ts';
import type { TensorFile } from '../weights/tensor-file.ts';

/** Opens weights in the order given; a folder yields all files in it. Throws UserError naming what cannot be opened. */
export async function openInputs(paths: readonly string[]): Promise<TensorFile[]> {
  const files: TensorFile[] = [];
  for (const path of paths) {
    if (/^https?:\/\//.test(path)) files.push(await openWeights(web, path));
    else if (await isFolder(path)) files.push(...(await openFolder(host, path)));
    else files.push(await openWeights(host, path));
  }
  return files;
}

const web = {
  fileSource: (url: string) => httpSource(url),
  list: async () => [],
};

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isDirectory() ?? false;
}
