/** Files of the project that tests read: from disk in Node, Bun and Deno, over HTTP in browsers (test/browser/run.ts serves them). */
import { currentHost } from '../../host/current.ts';

/** Bytes of a file under test/fixtures/, such as `golden/rng.safetensors`. */
export function fixture(name: string): Promise<Uint8Array<ArrayBuffer>> {
  return projectFile(`test/fixtures/${name}`);
}

/** Bytes of a file by its path from the project's root, such as `demo/sdxl.safetensors`. */
export async function projectFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const url = new URL(`../../${path}`, import.meta.url);
  if (url.protocol === 'file:') {
    const local = decodeURIComponent(url.pathname).replace(/^\/(?=[A-Za-z]:)/, '');
    return (await currentHost()).readFile(local);
  }
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** A JSON file under test/fixtures/. */
export async function jsonFixture<T>(name: string): Promise<T> {
  return JSON.parse(new TextDecoder().decode(await fixture(name))) as T;
}
