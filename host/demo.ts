/** Where the demo model that comes with the package lies. */

// Compiled files lie one folder deeper than sources.
const place = new URL(import.meta.url.endsWith('.ts') ? '../demo' : '../../demo', import.meta.url);

/**
 * The demo model's folder: a path for the hosts of Node, Bun and Deno (`Restorer.load(host, DEMO)`). Browsers have no such folder; a page copies the
 * files from the package's `demo/` into its own storage or its server's.
 */
export const DEMO: string = place.protocol === 'file:' ? filePath(place) : place.href;

/** As node:url's fileURLToPath, which browsers have not. */
function filePath({ pathname, host }: URL): string {
  const path = decodeURIComponent(pathname);
  if (host) return `//${host}${path}`;
  return /^\/[A-Za-z]:\//.test(path) ? path.slice(1) : path;
}
