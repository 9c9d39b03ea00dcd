/** `npm run web [-- --port 8080]`: builds and serves the page, again at every reload. `npm run web:build`: writes it to a folder, for any file server. */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { serveFiles } from './static-server.ts';
import { buildSite, PAGE_HEADERS } from './web-site.ts';

const { values } = parseArgs({ options: { out: { type: 'string' }, port: { type: 'string', default: '8080' } } });
const port = Number(values.port);
if (!(Number.isInteger(port) && port >= 0 && port < 65536)) {
  console.error(`--port is ${values.port}; it must be a whole number from 0 to 65535.`);
  process.exit(2);
}
if (values.out) {
  // Only what is a site of ours, or nothing, is emptied for the new one.
  if (existsSync(values.out) && readdirSync(values.out).length > 0 && !existsSync(join(values.out, 'service-worker.js'))) {
    console.error(`${values.out} holds other files. Choose another folder for the page, for its own is emptied first.`);
    process.exit(2);
  }
  const site = await buildSite();
  rmSync(values.out, { recursive: true, force: true });
  for (const [path, bytes] of site) {
    mkdirSync(dirname(join(values.out, path)), { recursive: true });
    writeFileSync(join(values.out, path), bytes);
  }
  console.log(`${site.size} files in ${values.out}; serve that folder over https or from localhost.`);
} else {
  let site = await buildSite({ development: true });
  const find = async (path: string) => {
    if (path === 'index.html') site = await buildSite({ development: true });
    return site.get(path);
  };
  const server = await serveFiles(find, { port, headers: PAGE_HEADERS }).catch((error: NodeJS.ErrnoException) => {
    const taken = error.code === 'EADDRINUSE' ? `Port ${port} is taken: give another with --port.` : error.message;
    console.error(taken);
    process.exit(2);
  });
  console.log(`The page is at ${server.url} (Ctrl-C ends it)`);
}
