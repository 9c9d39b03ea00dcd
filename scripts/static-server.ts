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

/** `find` gives the file at a path without its leading slash, or undefined. Port 0 takes any that is free. Throws when the port is taken. */
export async function serveFiles(find: (path: string) => Promise<Uint8Array | undefined>, port = 0): Promise<StaticServer> {
  const server: Server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname).slice(1) || 'index.html';
    const body = await find(path);
    if (!body) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end(`There is no ${path}.`);
      return;
    }
    const headers = {
      'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
      'accept-ranges': 'bytes',
      'cache-control': 'no-cache',
    };
    const asked = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    if (!asked) {
      response.writeHead(200, { ...headers, 'content-length': body.length }).end(body);
      return;
    }
    const [start, end] = [Number(asked[1]), Math.min(asked[2] ? Number(asked[2]) : Number.POSITIVE_INFINITY, body.length - 1)];
    const range = start <= end ? `bytes ${start}-${end}/${body.length}` : `bytes */${body.length}`;
    response.writeHead(start <= end ? 206 : 416, { ...headers, 'content-range': range }).end(body.subarray(start, end + 1));
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
