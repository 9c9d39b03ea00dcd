/** Serves files in memory to browsers on this machine, by byte range too. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname } from 'node:path';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.webmanifest': 'application/manifest+json',
  '.svg': 'image/svg+xml',
  '.jpg': 'image/jpeg',
  '.png': 'image/png',
  '.txt': 'text/plain; charset=utf-8',
  '.wasm': 'application/wasm',
};

export interface StaticServer {
  url: string;
  close(): void;
}

/** Of every answer. */
const HEADERS = { 'cache-control': 'no-cache', 'x-content-type-options': 'nosniff' };

export interface ServeOptions {
  /** Port 0, the default, takes any that is free. */
  port?: number;
  /** Further headers of every answer. */
  headers?: Readonly<Record<string, string>>;
}

/**
 * `find` gives the file at a path without its leading slash, or undefined. GET and HEAD alone are served; what is malformed is answered with 400, and
 * what `find` throws with 500, in words. Throws when the port is taken.
 */
export async function serveFiles(
  find: (path: string) => Promise<Uint8Array | undefined>,
  { port = 0, headers: more = {} }: ServeOptions = {},
): Promise<StaticServer> {
  const server: Server = createServer((request, response) => {
    answer(request.method ?? '', request.url ?? '/', request.headers.range, find)
      .catch((error): Answer => text(500, `The page could not be made: ${(error as Error).message}`))
      .then(({ status, headers, body }) => {
        response.writeHead(status, { ...HEADERS, ...more, ...headers, 'content-length': body.length });
        response.end(request.method === 'HEAD' ? undefined : body);
      })
      .catch(() => response.destroy());
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

interface Answer {
  status: number;
  headers: Record<string, string>;
  body: Uint8Array;
}

function text(status: number, words: string, headers: Record<string, string> = {}): Answer {
  return { status, headers: { 'content-type': 'text/plain; charset=utf-8', ...headers }, body: new TextEncoder().encode(`${words}\n`) };
}

async function answer(
  method: string,
  url: string,
  range: string | undefined,
  find: (path: string) => Promise<Uint8Array | undefined>,
): Promise<Answer> {
  if (method !== 'GET' && method !== 'HEAD') return text(405, 'Files are read here, with GET or HEAD.', { allow: 'GET, HEAD' });
  const path = pathOf(url);
  if (path === null) return text(400, 'This address is malformed.');
  const body = await find(path);
  if (!body) return text(404, 'There is no such file.');
  const headers = { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', 'accept-ranges': 'bytes' };
  const part = rangeOf(range, body.length);
  if (part === null) return { status: 200, headers, body };
  const [begin, end] = part;
  if (begin >= end) return text(416, 'The file has no such bytes.', { 'content-range': `bytes */${body.length}` });
  return {
    status: 206,
    headers: { ...headers, 'content-range': `bytes ${begin}-${end - 1}/${body.length}` },
    body: body.subarray(begin, end),
  };
}

/** The path of an address without its leading slash; null where it is none. */
function pathOf(url: string): string | null {
  if (!url.startsWith('/') || url.startsWith('//')) return null;
  try {
    const path = decodeURIComponent(url.slice(1).replace(/[?#].*$/s, ''));
    if (path.includes('\0')) return null;
    return path === '' || path.endsWith('/') ? `${path}index.html` : path;
  } catch {
    return null;
  }
}

/** The bytes that a Range header asks for, from `begin` to before `end`; null for all: without a header, or with one that need not be heeded. (RFC 9110, 14.1) */
function rangeOf(range: string | undefined, size: number): [begin: number, end: number] | null {
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(range ?? '') ?? [];
  if (first === '' && last === '') return null;
  if (first === '') return [Math.max(0, size - Number(last)), Number(last) === 0 ? 0 : size];
  if (last !== '' && Number(last) < Number(first)) return null;
  return [Number(first), last === '' ? size : Math.min(size, Number(last) + 1)];
}
