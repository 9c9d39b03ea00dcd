/**
 * Which tests run on every host: those that reach no Node module through static imports, found by bundling. Dynamic imports do not
 * count, for that is how host/current.ts keeps the other hosts' code apart.
 */
import { builtinModules } from 'node:module';
import { relative } from 'node:path';
import { type BuildOptions, build } from 'esbuild';
import { type FoundTest, findTests, testFolder } from './find.ts';

/** What only Node has. */
const NODE_ONLY = ['node:*', ...builtinModules, 'webgpu'];

export const bundleOptions = {
  bundle: true,
  splitting: true,
  write: false,
  metafile: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2022',
  external: NODE_ONLY,
  absWorkingDir: testFolder,
  outdir: 'bundle',
  logLevel: 'error',
} satisfies BuildOptions;

/** The tests that match the pattern and run on every host. Says which others were left to Node. */
export async function portableTests(pattern?: string): Promise<FoundTest[]> {
  const tests = findTests(pattern);
  const { metafile } = await build({ ...bundleOptions, entryPoints: tests.map(({ path }) => path) });
  const needsNode = (path: string, seen = new Set<string>()): boolean => {
    if (path.startsWith('node:') || NODE_ONLY.includes(path)) return true;
    if (seen.has(path)) return false;
    seen.add(path);
    return (metafile.inputs[path]?.imports ?? []).some((each) => each.kind !== 'dynamic-import' && needsNode(each.path, seen));
  };
  const portable = tests.filter(({ path }) => !needsNode(relative(testFolder, path)));
  const left = tests.filter((test) => !portable.includes(test));
  if (left.length > 0) console.log(`Left to Node, whose modules they import: ${left.map(({ name }) => name).join(', ')}`);
  return portable;
}
