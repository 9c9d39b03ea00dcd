/**
 * The package as people install it: `npx tsx scripts/check-package.ts`. Packs it, installs the tarball in an empty project in the temporary folder, and there
 * checks the types of a strict project (TypeScript 5.9 and the newest, node16, nodenext and bundler resolution, the package's own declarations included), runs an
 * example from the published entries, and builds a page with Vite and with esbuild that must show its picture in Chromium. It needs npm's registry.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasChromium, launchChromium } from '../test/support/chromium.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const project = mkdtempSync(join(tmpdir(), 'supir-package-'));
const started = performance.now();

function run(what: string, command: string, args: string[], cwd = project): void {
  try {
    execFileSync(command, args, { cwd, encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${what} failed:\n${stdout}${stderr}`);
  }
  console.log(`${String(Math.round((performance.now() - started) / 1000)).padStart(4)} s  ${what}`);
}

const node = (what: string, ...args: string[]) => run(what, process.execPath, args);
const write = (name: string, content: object | string) =>
  writeFileSync(join(project, name), typeof content === 'string' ? content : JSON.stringify(content));

const TYPES: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' };

/** A check of a whole program takes a compiler seconds, so each has one project that every entry is in. */
const ENTRIES = `
import { Restorer } from 'supir-webgpu';
import { Training } from 'supir-webgpu/framework';
import { DEMO } from 'supir-webgpu/demo';
import { host } from 'supir-webgpu/host/node';
import { host as browser } from 'supir-webgpu/host/browser';
import { host as deno } from 'supir-webgpu/host/deno';
export const device: GPUDevice | null = null;
export const all = [Restorer, Training, DEMO, host, browser, deno];
`;

try {
  write('package.json', { private: true, type: 'module' });
  run('npm pack', 'npm', ['pack', '--pack-destination', project], root);
  const tarball = readdirSync(project).find((name) => name.endsWith('.tgz'))!;
  const tools = ['typescript@5.9', 'typescript-newest@npm:typescript@7', '@types/node', 'vite@8', 'esbuild'];
  run('npm install', 'npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', `./${tarball}`, ...tools]);

  cpSync(join(root, 'examples/own-kernel.ts'), join(project, 'own-kernel.ts'));
  write('entries.ts', ENTRIES);
  for (const compiler of ['typescript', 'typescript-newest']) {
    for (const [module, moduleResolution] of [
      ['node16', 'node16'],
      ['nodenext', 'nodenext'],
      ['esnext', 'bundler'],
    ]) {
      const compilerOptions = { strict: true, target: 'es2022', module, moduleResolution, types: ['node'], outDir: 'out' };
      write('tsconfig.json', { compilerOptions, files: ['entries.ts', 'own-kernel.ts'] });
      node(`types: ${compiler}, ${moduleResolution}`, `node_modules/${compiler}/bin/tsc`, '-p', '.');
    }
  }
  node('the example of a kernel', 'out/own-kernel.js');
  node('supir --help', 'node_modules/supir-webgpu/dist/cli/main.js', 'restore', '--help');

  cpSync(join(root, 'examples/page'), join(project, 'page'), { recursive: true });
  node('Vite', 'node_modules/vite/bin/vite.js', 'build', 'page', '--outDir', '../by-vite', '--emptyOutDir');
  cpSync(join(project, 'page'), join(project, 'by-esbuild'), { recursive: true });
  const flags = ['--bundle', '--format=esm', '--splitting', '--outdir=by-esbuild', '--log-level=error'];
  run('esbuild', 'node_modules/.bin/esbuild', ['page/main.ts', ...flags]);
  const html = readFileSync(join(project, 'page/index.html'), 'utf8');
  write('by-esbuild/index.html', html.replace('main.ts', 'main.js'));
  if (hasChromium) await showPages(['by-vite', 'by-esbuild']);
  else console.log('The pages were not opened: there is no Chromium for this machine.');
} finally {
  rmSync(project, { recursive: true, force: true });
}

/** Opens each folder's page from an origin that the browser itself answers for. */
async function showPages(folders: string[]): Promise<void> {
  const browser = await launchChromium();
  try {
    for (const folder of folders) {
      const page = await browser.newPage();
      const errors: string[] = [];
      page.on('pageerror', (error) => errors.push(error.message));
      await page.route('https://page.test/**', (route) => {
        const path = new URL(route.request().url()).pathname.replace(/\/$/, '/index.html');
        try {
          return route.fulfill({ body: readFileSync(join(project, folder, path)), contentType: TYPES[extname(path)] });
        } catch {
          return route.fulfill({ status: 404 });
        }
      });
      await page.goto('https://page.test/');
      await page.waitForFunction(() => !document.querySelector('#text')!.textContent!.startsWith('Computing'), null, { timeout: 60_000 });
      const text = await page.textContent('#text');
      const width = await page.evaluate(async () => {
        const picture = document.querySelector('img')!;
        if (picture.src) await picture.decode();
        return picture.naturalWidth;
      });
      if (width !== 96 || errors.length > 0)
        throw new Error(`${folder}: the page says "${text}" and throws ${errors.join('; ') || 'nothing'}.`);
      console.log(`${String(Math.round((performance.now() - started) / 1000)).padStart(4)} s  ${folder} in Chromium: ${text}`);
    }
  } finally {
    await browser.close();
  }
}
