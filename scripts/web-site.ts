/**
 * The page as files, by their paths in the site: bundled scripts and style under hashed names, the demo model and its photos, the sources that the
 * page shows, and a service worker that knows them all.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BuildOptions, build, type Metafile } from 'esbuild';
import { FACE_FILES, FACE_PACKAGE } from '../restore/faces.ts';
import type { SourceMap } from '../web/sources.ts';

export type Site = Map<string, Uint8Array>;

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): Uint8Array => readFileSync(join(root, path));

/**
 * What page and worker may do, in a tag of the page, which the worker inherits. Which addresses may be connected to, web/policy.ts narrows to those that a
 * person opened, before anything else runs. WebAssembly is for WebP.
 */
const POLICY = [
  "default-src 'self'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self' blob:",
  "img-src 'self' blob:",
  "connect-src 'self' blob: https: http:",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

/** Headers for every file, where a server can be told: framing by others cannot be refused from within the page. */
export const PAGE_HEADERS = {
  'content-security-policy': `${POLICY}; frame-ancestors 'none'`,
  'x-frame-options': 'DENY',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
};

const DEMO = [
  'config.json',
  'tokenizer.json',
  'sdxl.safetensors',
  'supir.safetensors',
  'reference.safetensors',
  'photos/astronaut-noisy.jpg',
  'photos/cat-noisy.jpg',
  'photos/dandelion-noisy.jpg',
].map((name) => `demo/${name}`);
/** WebAssembly modules that a script fetches from beside it. */
const MODULES = ['webp/codec/dec/webp_dec.wasm', 'webp/codec/enc/webp_enc_simd.wasm', 'avif/codec/dec/avif_dec.wasm'].map(
  (path) => `node_modules/@jsquash/${path}`,
);
/** Folders whose sources the page links to. */
const SHOWN = ['core', 'kernels', 'models', 'restore', 'sampler'];

const bundle: BuildOptions = {
  bundle: true,
  splitting: true,
  write: false,
  minify: true,
  keepNames: true, // Explore shows the classes of modules
  metafile: true,
  format: 'esm',
  platform: 'browser',
  target: 'es2022',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  absWorkingDir: root,
  outdir: '/site',
  entryNames: 'assets/[name]-[hash]',
  chunkNames: 'assets/[name]-[hash]',
  logLevel: 'error',
};

/** Where the classes of modules and the operations of kernels are written, told by the sources themselves. */
export function sourceMap(): SourceMap {
  const found = (folder: string, mark: RegExp) =>
    Object.fromEntries(
      readdirSync(join(root, folder))
        .filter((name) => name.endsWith('.ts'))
        .flatMap((name) =>
          [...readFileSync(join(root, folder, name), 'utf8').matchAll(mark)].map(([, what]) => [what, `${folder}/${name}`]),
        ),
    );
  return { classes: found('models', /^export class (\w+)/gm), operations: found('kernels', /^ +name: '(\w+)',$/gm) };
}

/** Builds the page. `development`: no service worker, and scripts that can be read. */
export async function buildSite({ development = false } = {}): Promise<Site> {
  const site: Site = new Map();
  const { outputFiles, metafile } = await build({
    ...bundle,
    minify: !development,
    sourcemap: development ? 'inline' : false,
    entryPoints: ['web/main.tsx', 'web/worker.ts', 'web/style.css'],
    define: { SOURCE_MAP: JSON.stringify(sourceMap()) },
  });
  for (const { path, contents } of outputFiles!) site.set(relative('/site', path).split(sep).join('/'), contents);
  const entry = (source: string) => {
    const [path] = Object.entries(metafile!.outputs).find(([, { entryPoint }]) => entryPoint === source)!;
    return sitePath(path);
  };
  const html = new TextDecoder()
    .decode(read('web/index.html'))
    .replaceAll('{policy}', POLICY)
    .replaceAll('{style}', entry('web/style.css'))
    .replaceAll('{policyScript}', 'policy.js')
    .replaceAll('{main}', entry('web/main.tsx'))
    .replaceAll('{worker}', entry('web/worker.ts'))
    .replaceAll('{offline}', development ? '' : 'service-worker.js');
  site.set('index.html', new TextEncoder().encode(html));
  if (!development) {
    // As several hosts of static pages read it.
    const lines = Object.entries(PAGE_HEADERS).map(([name, value]) => `  ${name}: ${value}\n`);
    site.set('_headers', new TextEncoder().encode(`/*\n${lines.join('')}`));
  }
  site.set('policy.js', await policyScript());
  for (const name of ['icon.svg', 'page.webmanifest']) site.set(name, read(`web/${name}`));
  for (const path of MODULES) site.set(`assets/${basename(path)}`, read(path));
  for (const path of DEMO) site.set(path, read(path));
  for (const path of FACE_FILES) site.set(`faces/${basename(path)}`, read(`node_modules/${FACE_PACKAGE}/${path}`));
  for (const folder of SHOWN) {
    for (const name of readdirSync(join(root, folder)))
      if (name.endsWith('.ts')) site.set(`source/${folder}/${name}.txt`, read(`${folder}/${name}`));
  }
  if (!development) {
    const first = ['web/main.tsx', 'web/worker.ts', 'web/style.css'].flatMap((source) => withImports(entry(source), metafile!));
    site.set(
      'service-worker.js',
      await serviceWorker(site, ['index.html', 'policy.js', 'icon.svg', 'page.webmanifest', ...new Set(first)]),
    );
  }
  return site;
}

/** What runs before all else, and not as a module, which would wait. */
async function policyScript(): Promise<Uint8Array> {
  const { outputFiles } = await build({ ...bundle, splitting: false, format: 'iife', entryPoints: ['web/policy.ts'] });
  return outputFiles![0].contents;
}

const sitePath = (output: string): string => relative('/site', join(root, output)).split(sep).join('/');

/** A script and what it imports at once. */
function withImports(path: string, metafile: Metafile): string[] {
  const [, output] = Object.entries(metafile.outputs).find(([name]) => sitePath(name) === path)!;
  const imports = output.imports.filter(({ kind }) => kind === 'import-statement').map((each) => sitePath(each.path));
  return [path, ...imports.flatMap((each) => withImports(each, metafile))];
}

/** The service worker, with the names of what it keeps at once (`shell`) and later. */
async function serviceWorker(site: Site, shell: string[]): Promise<Uint8Array> {
  const seldom = ['_headers', 'demo/reference.safetensors'];
  const later = [...site.keys()].filter((path) => !shell.includes(path) && !seldom.includes(path) && !path.startsWith('source/'));
  const hash = createHash('sha256');
  for (const [path, bytes] of site) hash.update(path).update(bytes);
  const { outputFiles } = await build({
    ...bundle,
    splitting: false,
    entryPoints: ['web/service-worker.ts'],
    define: { SHELL: JSON.stringify(shell), LATER: JSON.stringify(later), BUILD: JSON.stringify(hash.digest('hex').slice(0, 16)) },
  });
  return outputFiles![0].contents;
}
