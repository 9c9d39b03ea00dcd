/** Serves one page with the bundled tests to a browser on this machine, and the project's files that tests read, by byte range too. */
import { readFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, dirname, join, normalize } from 'node:path';
import { build } from 'esbuild';
import { type FoundTest, testFolder } from '../support/find.ts';
import { bundleOptions } from '../support/portable.ts';

/** Folders whose files the page may fetch. */
const SERVED = ['test/fixtures/', 'demo/'];
/** WebAssembly files that scripts of the bundle fetch from beside them. */
const MODULES = ['webp/codec/dec/webp_dec.wasm', 'webp/codec/enc/webp_enc_simd.wasm', 'avif/codec/dec/avif_dec.wasm'].map(
  (path) => `node_modules/@jsquash/${path}`,
);
const PAGE = '<!doctype html><meta charset="utf-8"><title>tests</title><script type="module" src="/test/bundle/stdin.js"></script>';

/** The page's script, and the chunks it loads, by name: each test file is a chunk that the runner imports when its turn comes. */
async function bundle(tests: FoundTest[]): Promise<Map<string, Uint8Array>> {
  const files = tests.map(({ name }) => `{ name: ${JSON.stringify(name)}, load: () => import(${JSON.stringify(`./${name}`)}) },`);
  const contents = `import { runTestFiles } from './support/runner.ts';\nglobalThis.counts = await runTestFiles([\n${files.join('\n')}\n]);`;
  const { outputFiles } = await build({ ...bundleOptions, stdin: { contents, resolveDir: testFolder, loader: 'ts' } });
  const modules = MODULES.map((path) => [basename(path), readFileSync(join(testFolder, '..', path))] as const);
  return new Map([...outputFiles.map(({ path, contents }) => [basename(path), contents] as const), ...modules]);
}

function send(response: ServerResponse, type: string, body: Uint8Array | string, range?: string): void {
  response.setHeader('content-type', type);
  response.setHeader('accept-ranges', 'bytes');
  const asked = /^bytes=(\d+)-(\d*)$/.exec(range ?? '');
  if (!asked) {
    response.end(body);
    return;
  }
  const [start, end] = [Number(asked[1]), Math.min(asked[2] ? Number(asked[2]) : Number.POSITIVE_INFINITY, body.length - 1)];
  response.statusCode = start <= end ? 206 : 416;
  response.setHeader('content-range', start <= end ? `bytes ${start}-${end}/${body.length}` : `bytes */${body.length}`);
  response.end(start <= end ? body.slice(start, end + 1) : '');
}

export async function serveTests(tests: FoundTest[]): Promise<{ url: string; close(): void }> {
  const scripts = await bundle(tests);
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname)).slice(1);
    const script = dirname(path) === 'test/bundle' ? scripts.get(basename(path)) : undefined;
    if (path === '') return send(response, 'text/html', PAGE);
    if (script) return send(response, path.endsWith('.wasm') ? 'application/wasm' : 'text/javascript', script);
    try {
      if (!SERVED.some((folder) => path.startsWith(folder))) throw new Error('not served');
      send(response, 'application/octet-stream', readFileSync(join(testFolder, '..', path)), request.headers.range);
    } catch {
      response.statusCode = 404;
      response.end();
    }
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return {
    url,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
