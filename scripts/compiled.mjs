/**
 * What is compiled, all of it in `dist`. The package's modules, by TypeScript, when it is made. And the programs, each with all of its own modules in a few files, because
 * hundreds of them take most of the time in which a program starts: the package's `supir`, and those of a clone, which are compiled anew where one of
 * their sources was changed (scripts/start.mjs). Plain JavaScript, because it runs first.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** Programs by name. They lie in one folder with what they share, as deep as the modules, from which the demo model's folder and the probe are found. */
const PROGRAMS = {
  main: 'cli/main.ts',
  setup: 'scripts/setup.ts',
  'restore-demo': 'scripts/restore-demo.ts',
  'node-matrix-probe': 'host/node-matrix-probe.ts',
};

/** What else decides what is compiled. */
const SETTINGS = ['package.json', 'tsconfig.json', 'scripts/compiled.mjs'];

/** Beside the programs: their sources, a line each, with size and time. */
const STAMP = '.sources';

/** Milliseconds by which a file's time may be late, and after which a folder that was being written counts as left behind. */
const [LATE, ABANDONED] = [20, 600_000];

/** The folder of a package that compiles; null where it is not installed (`npm ci --omit=dev`). */
export function compiler(root, name = 'typescript') {
  try {
    return dirname(createRequire(join(root, 'package.json')).resolve(`${name}/package.json`));
  } catch {
    return null;
  }
}

/** The folder of the programs, compiled first where a source was changed or deleted; null where that cannot be done. */
export function programs(root) {
  const folder = join(root, 'dist', 'cli');
  return isCurrent(root, folder) || bundle(root, folder) ? folder : null;
}

/** Compiles the package's modules, with types checked, and the programs. Throws Error with what is wrong, and changes nothing then. */
export function compilePackage(root) {
  const folder = emptyFolder(root);
  try {
    const args = [join(compiler(root), 'bin', 'tsc'), '-p', 'tsconfig.build.json', '--outDir', folder];
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
    if (status !== 0) throw new Error(`${stdout}${stderr}`.trim() || `The compiler ended with ${signal ?? status}.`);
    replace(join(root, 'dist'), folder, root);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  if (!programs(root)) throw new Error('The programs cannot be compiled: esbuild is not installed, or their folder cannot be written.');
}

/** Whether every source is as it was. */
function isCurrent(root, folder) {
  try {
    return stampOf(folder)
      .split('\n')
      .every((line) => line === lineOf(root, line.split('\t')[0]));
  } catch {
    return false;
  }
}

const stampOf = (folder) => readFileSync(join(folder, STAMP), 'utf8');

function lineOf(root, path) {
  const { size, mtimeMs } = statSync(join(root, path));
  return [path, size, mtimeMs].join('\t');
}

/** Compiles the programs; false where that cannot be done: sources that cannot be read, a checkout that cannot be written, no compiler. */
function bundle(root, to) {
  const esbuild = compiler(root, 'esbuild');
  if (!esbuild) return false;
  let folder = null;
  try {
    folder = emptyFolder(root);
    const begun = Date.now();
    const { metafile } = createRequire(import.meta.url)(esbuild).buildSync({
      absWorkingDir: root,
      entryPoints: PROGRAMS,
      outdir: folder,
      bundle: true,
      splitting: true,
      packages: 'external',
      platform: 'node',
      target: 'node20.12',
      format: 'esm',
      keepNames: true, // traces have the names of classes
      sourcemap: true, // stacks, with --debug
      sourcesContent: false,
      metafile: true,
      logLevel: 'silent',
    });
    const sources = [...Object.keys(metafile.inputs), ...SETTINGS];
    const isSettled = sources.every((path) => statSync(join(root, path)).mtimeMs < begun - LATE);
    // Without a list it is compiled once more the next time.
    if (isSettled) writeFileSync(join(folder, STAMP), sources.map((path) => lineOf(root, path)).join('\n'));
    replace(to, folder, root);
    return true;
  } catch {
    return false;
  } finally {
    if (folder) rmSync(folder, { recursive: true, force: true });
  }
}

/** A new folder in `out`, as deep as that of the programs; those that an ended process left there are removed. */
function emptyFolder(root) {
  const among = join(root, 'out');
  mkdirSync(among, { recursive: true });
  for (const name of readdirSync(among).filter((each) => each.startsWith('dist-'))) {
    const made = statSync(join(among, name), { throwIfNoEntry: false });
    if (made && Date.now() - made.mtimeMs > ABANDONED) rmSync(join(among, name), { recursive: true, force: true });
  }
  return mkdtempSync(join(among, 'dist-'));
}

/** Puts a folder in the place of another, whole: of processes that start at once none finds half of it. */
function replace(to, fresh, root) {
  mkdirSync(dirname(to), { recursive: true });
  const aside = emptyFolder(root);
  try {
    for (let tries = 1; ; tries++) {
      try {
        renameSync(to, join(aside, String(tries)));
      } catch (error) {
        if (error.code !== 'ENOENT') throw error;
      }
      try {
        return renameSync(fresh, to);
      } catch (error) {
        if (tries === 9) throw error; // another process was quicker each time
      }
    }
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
}
