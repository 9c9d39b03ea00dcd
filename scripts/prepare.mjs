/**
 * Compiles `dist`: npm runs this where the package is installed from git, before it is packed, and in a clone. Where the compiler was left out
 * (`npm ci --omit=dev`) there is nothing to do: a clone runs its sources.
 */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

function compiler() {
  try {
    return fileURLToPath(new URL('bin/tsc', import.meta.resolve('typescript/package.json')));
  } catch {
    return null;
  }
}

const tsc = compiler();
if (tsc) {
  rmSync(new URL('../dist', import.meta.url), { recursive: true, force: true });
  execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' });
} else console.error('typescript is not installed: dist is not compiled.');
