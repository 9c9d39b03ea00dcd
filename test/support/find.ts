/** Finds test files on disk. For the harnesses only: it reads folders through Node. */
import { readdirSync } from 'node:fs';
import { join, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const testFolder = fileURLToPath(new URL('..', import.meta.url));

export interface FoundTest {
  /** Path from test/, with forward slashes. */
  name: string;
  path: string;
  url: string;
}

/** Every test/**\/*.test.ts whose path matches the pattern, by name. Exits 1 where none does. */
export function findTests(pattern = ''): FoundTest[] {
  const wanted = new RegExp(pattern);
  const found = readdirSync(testFolder, { recursive: true, encoding: 'utf8' })
    .map((name) => name.split(sep).join('/'))
    .filter((name) => name.endsWith('.test.ts') && !name.startsWith('fixtures/') && wanted.test(`test/${name}`))
    .sort()
    .map((name) => {
      const path = join(testFolder, name);
      return { name, path, url: pathToFileURL(path).href };
    });
  if (found.length === 0) {
    console.error(`No test file matches ${pattern || 'test/**/*.test.ts'}.`);
    process.exit(1);
  }
  return found;
}
