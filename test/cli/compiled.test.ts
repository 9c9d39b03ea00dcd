/** What a clone runs: programs compiled when a source is changed, whole or not at all. */
import { execFile } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const compiled = fileURLToPath(new URL('../../scripts/compiled.mjs', import.meta.url));
const { programs }: { programs(root: string): string | null } = await import(compiled);

/** Longer ago than a compiler takes to be sure that a file was not changed while it was read. */
const EARLIER = new Date(Date.now() - 60_000);

const test = suite('compiled', { root: '', main: '', write: (_path: string, _text: string) => {} });
test.before.each((context) => {
  const root = mkdtempSync(join(tmpdir(), 'supir-compiled-'));
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
    utimesSync(join(root, path), EARLIER, EARLIER);
  };
  write('package.json', '{ "type": "module" }');
  write('tsconfig.json', '{}');
  write('cli/main.ts', "import { a } from '../core/a.ts';\nexport const sum: number = a + 1;\n");
  write('core/a.ts', 'export const a: number = 1;\n');
  for (const path of ['scripts/setup.ts', 'scripts/restore-demo.ts', 'host/node-matrix-probe.ts']) write(path, 'export const none = 0;\n');
  copyFileSync(compiled, join(root, 'scripts', 'compiled.mjs'));
  utimesSync(join(root, 'scripts', 'compiled.mjs'), EARLIER, EARLIER);
  symlinkSync(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(root, 'node_modules'));
  Object.assign(context, { root, write, main: join(root, 'dist', 'cli', 'main.js') });
});
test.after.each(({ root }) => rmSync(root, { recursive: true, force: true }));

test('they are made where they are absent, and again after a change or a deletion alone', ({ root, main, write }) => {
  assert.is(programs(root), dirname(main));
  assert.match(readFileSync(main, 'utf8'), 'a = 1;');
  const made = statSync(main).ino;
  assert.is(programs(root), dirname(main));
  assert.is(statSync(main).ino, made);

  write('core/a.ts', "export const a: number = 'no number';\n"); // of the same time; wrong types run all the same
  assert.is(programs(root), dirname(main));
  assert.match(readFileSync(main, 'utf8'), 'a = "no number";');

  write('cli/main.ts', 'export const sum: number = 4;\n');
  rmSync(join(root, 'core'), { recursive: true });
  assert.is(programs(root), dirname(main));
  assert.not.match(readFileSync(main, 'utf8'), 'no number');
  assert.equal(readdirSync(join(root, 'out')), []);
});

test('they stay as they are where a source cannot be read or nothing can be written, which the caller is told', ({ root, main, write }) => {
  assert.is(programs(root), dirname(main));
  write('core/a.ts', 'export const a: number = ;\n');
  assert.is(programs(root), null);
  write('core/a.ts', 'export const a: number = 345;\n');
  rmSync(join(root, 'out'), { recursive: true });
  write('out', 'no folder');
  assert.is(programs(root), null);
  assert.match(readFileSync(main, 'utf8'), 'a = 1;');
});

test('they are whole for processes that start at once', async ({ root, main }) => {
  const script = `const { programs } = await import(${JSON.stringify(compiled)});
programs(${JSON.stringify(root)});
console.log((await import(${JSON.stringify(main)})).sum);`;
  const run = () => promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  for (const { stdout } of await Promise.all([run(), run()])) assert.is(stdout, '2\n');
  assert.equal(readdirSync(join(root, 'out')), []);
});

test.run();
