/**
 * Compiles `dist`: npm runs this where the package is installed from git, before it is packed, and in a clone; `npm run build` does too. Where the
 * compiler was left out (`npm ci --omit=dev`) an installation goes on: a clone's programs run from their sources then, if Node can (scripts/start.mjs).
 */
import { fileURLToPath } from 'node:url';
import { compilePackage, compiler } from './compiled.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
try {
  if (compiler(root)) compilePackage(root);
  else {
    console.error('typescript is not installed: dist is not compiled.');
    if (process.env.npm_lifecycle_event === 'build') process.exitCode = 1;
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
