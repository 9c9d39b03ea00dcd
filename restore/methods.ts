/** The methods of restoration that there are. */
import type { FolderAccess } from '../weights/folder.ts';
import { SUPIR } from './supir.ts';

export const METHODS = [SUPIR] as const;
export type AnyMethod = (typeof METHODS)[number];

/** The method whose model lies in a folder: the first that knows it. */
export async function methodOf(access: FolderAccess, folder: string): Promise<AnyMethod> {
  for (const method of METHODS) if (await method.recognises(access, folder)) return method;
  return SUPIR;
}
