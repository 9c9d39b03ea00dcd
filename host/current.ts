/** The host this program runs on. Each platform's code is loaded only where it runs, so browser bundles need no Node module. */
import type { Host } from './host.ts';

export async function currentHost(): Promise<Host> {
  if ('Deno' in globalThis) return (await import('./deno.ts')).host;
  if (typeof process === 'object' && process.versions?.node) return (await import('./node.ts')).host;
  return (await import('./browser.ts')).host;
}
