/**
 * Compiles `dist` and checks types: npm runs this where the package is installed from git, before it is packed, and in a clone; `npm run build` does too.
 * Where the compiler was left out (`npm ci --omit=dev`) an installation goes on: a clone's programs then run from their sources, if Node can
 * (scripts/start.mjs).
 */
import { fileURLToPath } from 'node:url';
import { compile, compiler } from './compiled.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const { problem } = compile(root);
if (problem !== null) {
  console.error(problem);
  if (compiler(root) || process.env.npm_lifecycle_event === 'build') process.exitCode = 1;
}
