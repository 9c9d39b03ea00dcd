/**
 * `node scripts/start.mjs <program> <arguments>`: runs a program of this clone, such as `cli/main`, in this process. It runs what is compiled of it, which
 * is compiled anew where sources were changed; where that cannot be done, the sources.
 */
import { basename, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { programs } from './compiled.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const [node, , program, ...args] = process.argv;
const source = join(root, `${program}.ts`);
// As if the source had been started: programs tell by it how a person calls them.
process.argv = [node, source, ...args];

const folder = programs(root);
if (folder) await import(pathToFileURL(join(folder, `${basename(program)}.js`)).href);
else if ((await readTypeScript()) || process.features.typescript) await import(pathToFileURL(source).href);
else {
  console.error('This clone is not compiled, or not as its sources are now, and the compiler is not installed: run `npm ci`.');
  console.error('Node 22.18 and newer can do without.');
  process.exitCode = 1;
}

/** Teaches this process and those that it will start (host/node-matrices.ts) to read TypeScript; false where tsx is not installed. */
async function readTypeScript() {
  try {
    const { register } = await import('tsx/esm/api');
    register();
    process.execArgv.push('--import', import.meta.resolve('tsx'));
    return true;
  } catch {
    return false;
  }
}
