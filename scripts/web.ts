/** `npm run web [-- --port 8080]`: builds and serves the page, anew at every reload. `npm run web:build`: writes it to a folder, for any file server. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { serveFiles } from './static-server.ts';
import { buildSite } from './web-site.ts';

const { values } = parseArgs({ options: { out: { type: 'string' }, port: { type: 'string', default: '8080' } } });
if (values.out) {
  const site = await buildSite();
  rmSync(values.out, { recursive: true, force: true });
  for (const [path, bytes] of site) {
    mkdirSync(dirname(join(values.out, path)), { recursive: true });
    writeFileSync(join(values.out, path), bytes);
  }
  console.log(`${site.size} files in ${values.out}; serve that folder over https or from localhost.`);
} else {
  let site = await buildSite({ development: true });
  const { url } = await serveFiles(async (path) => {
    if (path === 'index.html') site = await buildSite({ development: true });
    return site.get(path);
  }, Number(values.port));
  console.log(`The page is at ${url} (Ctrl-C ends it)`);
}
