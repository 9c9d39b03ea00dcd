/** What a person types to run this program, as it was started: for help, examples and advice. */
import { basename, dirname } from 'node:path';

/** Sources are run by npm's script; an installed program by npx, or by its name where it is on the path; else the file. */
export function programName(script: string): string {
  if (script.endsWith('.ts')) return 'npm run -s supir --';
  if (basename(script) !== 'supir') return `node ${script}`;
  return basename(dirname(script)) === '.bin' ? 'npx supir' : 'supir';
}

export const COMMAND = programName(process.argv[1] ?? 'supir');

/** Run from its sources, where npm's scripts are at hand. */
export const isClone = (process.argv[1] ?? '').endsWith('.ts');
