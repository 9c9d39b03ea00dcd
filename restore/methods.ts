/** The methods of restoration that there are. */
import type { Kind, Method } from './stage.ts';
import { SUPIR } from './supir.ts';

export type AnyMethod = Method<Kind>;

/** A folder is of the first that recognises it; SUPIR, the last, takes what no other knows, and tells what it lacks. */
export const METHODS: readonly AnyMethod[] = [SUPIR];
