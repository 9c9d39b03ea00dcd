/** What a clone runs: sources compiled when they are changed, whole or not at all. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const program = new URL('../../scripts/compiled.mjs', import.meta.url).href;
const { compile, compiled }: { compile(root: string): { problem: string | null }; compiled(root: string): string | null } = await import(
  program
);

const test = suite('compiled', { root: '', dist: '' });
test.before.each((context) => {
  context.root = mkdtempSync(join(tmpdir(), 'supir-compiled-'));
  context.dist = join(context.root, 'dist');
  symlinkSync(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(context.root, 'node_modules'));
  const compilerOptions = { module: 'nodenext', target: 'es2022', rootDir: '.', types: [], strict: true };
  const files = {
    'package.json': { type: 'module' },
    'tsconfig.json': { compilerOptions },
    'tsconfig.build.json': { extends: './tsconfig.json', include: ['src'] },
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(context.root, name), JSON.stringify(content));
  mkdirSync(join(context.root, 'src', 'deep'), { recursive: true });
  writeFileSync(join(context.root, 'src', 'a.ts'), 'export const a: number = 1;\n');
  writeFileSync(join(context.root, 'src', 'deep', 'b.ts'), 'export const b: number = 2;\n');
});
test.after.each(({ root }) => rmSync(root, { recursive: true, force: true }));

test('is made where it is absent, and again after a change or a deletion alone', ({ root, dist }) => {
  const [source, result] = [join(root, 'src', 'a.ts'), join(dist, 'src', 'a.js')];
  assert.is(compiled(root), dist);
  assert.match(readFileSync(result, 'utf8'), 'a = 1;');
  const made = statSync(dist).ino;
  assert.is(compiled(root), dist);
  assert.is(statSync(dist).ino, made);

  writeFileSync(source, "export const a: number = 'no number';\n"); // wrong types run all the same
  rmSync(join(root, 'src', 'deep', 'b.ts'));
  assert.is(compiled(root), dist);
  assert.match(readFileSync(result, 'utf8'), "a = 'no number';");
  assert.equal(
    readdirSync(join(dist, 'src')).filter((name) => !name.includes('.')),
    [],
  );
  assert.match(compile(root).problem ?? '', /a\.ts.*Type 'string' is not assignable to type 'number'/);
  assert.equal(readdirSync(join(root, 'out')), []);
});

test('stays as it is where a source cannot be compiled or nothing can be written, which its caller is told', ({ root, dist }) => {
  assert.is(compiled(root), dist);
  writeFileSync(join(root, 'src', 'a.ts'), 'export const a: number = ;\n');
  assert.is(compiled(root), null);
  rmSync(join(root, 'out'), { recursive: true });
  writeFileSync(join(root, 'src', 'a.ts'), 'export const a: number = 3;\n');
  writeFileSync(join(root, 'out'), 'no folder');
  assert.is(compiled(root), null);
  assert.match(readFileSync(join(dist, 'src', 'a.js'), 'utf8'), 'a = 1;');
});

test('is whole for processes that start at once', async ({ root, dist }) => {
  const script = `const { compiled } = await import(${JSON.stringify(program)});
const dist = compiled(${JSON.stringify(root)});
const { pathToFileURL } = await import('node:url');
console.log((await import(pathToFileURL(dist + '/src/deep/b.js').href)).b);`;
  const run = () => promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
  const ended = await Promise.all([run(), run()]);
  assert.equal(
    ended.map(({ stdout }) => stdout),
    ['2\n', '2\n'],
  );
  assert.equal(readdirSync(join(root, 'out')), []);
  assert.equal(readdirSync(dist).sort(), ['.sources', 'src']);
});

test.run();
