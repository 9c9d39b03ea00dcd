/**
 * `dist`, the compiled program, of which the package is made and which a clone runs: it starts in a fraction of the time that sources take. With it stands
 * a list of the sources as they were, with sizes and times; where these are otherwise now, it is compiled anew. Plain JavaScript, because it runs first.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const CONFIG = 'tsconfig.build.json';

/** The list of sources, in `dist`. */
const STAMP = '.sources';

/** Milliseconds after which a folder that a compiler was writing counts as left behind. */
const ABANDONED = 600_000;

/** The path of the TypeScript compiler; null where it is not installed (`npm ci --omit=dev`). */
export function compiler(root) {
  try {
    return join(dirname(createRequire(join(root, 'package.json')).resolve('typescript/package.json')), 'bin/tsc');
  } catch {
    return null;
  }
}

/** The folder of the compiled program, compiled first where a source was changed, added or deleted; null where that cannot be done. */
export function compiled(root) {
  const dist = join(root, 'dist');
  if (stampOf(dist) === sources(root)) return dist;
  // Errors of types are no hindrance, and finding them takes longer than all the rest.
  return compile(root, ['--noCheck']).problem === null ? dist : null;
}

/**
 * Compiles `dist` as a whole: it is replaced when all is written, so that of processes that start at once none finds half of it.
 * `problem` is null, or says why it was not replaced.
 */
export function compile(root, flags = []) {
  const tsc = compiler(root);
  if (!tsc) return { problem: 'typescript is not installed: dist is not compiled.' };
  const stamp = sources(root);
  let folder = null;
  try {
    folder = emptyFolder(join(root, 'out'));
    const fresh = join(folder, 'new');
    const args = [tsc, '-p', CONFIG, '--outDir', fresh, ...flags];
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
    if (status !== 0) return { problem: `${stdout}${stderr}`.trim() || `The compiler ended with ${signal ?? status}.` };
    writeFileSync(join(fresh, STAMP), stamp);
    replace(join(root, 'dist'), fresh, join(folder, 'old'), stamp);
    return { problem: null };
  } catch (error) {
    return { problem: error.message }; // a checkout that cannot be written to, a full disk
  } finally {
    if (folder) rmSync(folder, { recursive: true, force: true });
  }
}

function stampOf(dist) {
  try {
    return readFileSync(join(dist, STAMP), 'utf8');
  } catch {
    return null;
  }
}

/** Every source with its size and time. */
function sources(root) {
  const { include } = JSON.parse(readFileSync(join(root, CONFIG), 'utf8'));
  const lines = [];
  const visit = (path) => {
    const found = statSync(join(root, path), { throwIfNoEntry: false });
    if (found?.isDirectory()) for (const name of readdirSync(join(root, path)).sort()) visit(`${path}/${name}`);
    else if (found) lines.push(`${path} ${found.size} ${found.mtimeMs}`);
  };
  for (const path of [CONFIG, 'tsconfig.json', ...include]) visit(path);
  return lines.join('\n');
}

/** A new folder among others, of which those are removed that an ended process left. */
function emptyFolder(among) {
  mkdirSync(among, { recursive: true });
  for (const name of readdirSync(among).filter((each) => each.startsWith('dist-'))) {
    const made = statSync(join(among, name), { throwIfNoEntry: false });
    if (made && Date.now() - made.mtimeMs > ABANDONED) rmSync(join(among, name), { recursive: true, force: true });
  }
  return mkdtempSync(join(among, 'dist-'));
}

/** Puts `fresh` in the place of `dist`, unless another process has put the same there. */
function replace(dist, fresh, aside, stamp) {
  for (let tries = 1; stampOf(dist) !== stamp; tries++) {
    try {
      renameSync(dist, `${aside}${tries}`);
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
    }
    try {
      renameSync(fresh, dist);
    } catch (error) {
      if (!['ENOTEMPTY', 'EEXIST', 'EPERM'].includes(error.code) || tries === 3) throw error; // another process was quicker
    }
  }
}
