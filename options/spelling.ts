/** One name in the cases that places ask for: cfgStart in TypeScript and recipes, cfg-start on the command line, cfg_start in files of settings. */
export type Case = 'camel' | 'kebab' | 'snake';

/** A key (cfgStart) in another case. */
export function spelled(key: string, to: Case): string {
  if (to === 'camel') return key;
  return key.replace(/[A-Z]/g, (letter) => `${to === 'kebab' ? '-' : '_'}${letter.toLowerCase()}`);
}
