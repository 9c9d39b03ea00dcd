/** The program where the optional packages are not installed: what needs no GPU works, and the rest says what is missing. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const OPTIONAL = ['webgpu', '@jsquash'];

const test = suite('without optional packages', { folder: '' });
test.before((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-without-'));
  const link = (path: string) => symlinkSync(join(root, path), join(context.folder, path));
  for (const name of readdirSync(root)) if (!name.startsWith('.') && !['node_modules', 'dist', 'out'].includes(name)) link(name);
  mkdirSync(join(context.folder, 'node_modules'));
  for (const name of readdirSync(join(root, 'node_modules')))
    if (!name.startsWith('.') && !OPTIONAL.includes(name)) link(join('node_modules', name));
});
test.after(({ folder }) => rmSync(folder, { recursive: true, force: true }));

test('help and inspect work; restore says what to install', ({ folder }) => {
  const run = (...args: string[]) =>
    spawnSync(process.execPath, ['--preserve-symlinks', '--preserve-symlinks-main', '--import', 'tsx', 'cli/main.ts', ...args], {
      cwd: folder,
      encoding: 'utf8',
    });
  const help = run('--help');
  assert.is(help.status, 0, help.stderr);
  assert.match(help.stdout, /^Usage: supir/);
  const inspected = run('inspect', 'demo/sdxl.safetensors');
  assert.is(inspected.status, 0, inspected.stderr);
  const restored = run('restore', 'demo/photos/cat-noisy.jpg', '-o', 'out.png');
  assert.is(restored.status, 3, restored.stderr);
  assert.match(restored.stderr, /The package webgpu, which computes here, is not installed\. Run `npm install webgpu`\.\n$/);
  assert.not.match(restored.stderr, /\n\s+at /);
});

test.run();
