/**
 * Unpacks parts of the npm package `@sparticuz/chromium` (a headless Chromium for x64 Linux, brotli-compressed) into node_modules/.cache,
 * once: its SwiftShader Vulkan driver serves Dawn where no other driver can be installed, its browser runs the browser tests without root.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { cacheFolder } from '../host/node-driver.ts';
import { tarFiles } from './tar.ts';

function packed(file: string): string {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(`@sparticuz/chromium is for x64 Linux, and this is ${process.arch} ${process.platform}.`);
  }
  const main = createRequire(import.meta.url).resolve('@sparticuz/chromium');
  return join(dirname(main), '..', '..', 'bin', file);
}

/** Makes folder `name` in the cache by `fill`, all or nothing, unless it is there. Gives its path. */
function cached(name: string, fill: (folder: string) => void): string {
  const folder = join(cacheFolder, name);
  if (existsSync(folder)) return folder;
  const partial = `${folder}.${process.pid}`;
  try {
    mkdirSync(partial, { recursive: true });
    fill(partial);
    renameSync(partial, folder);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    if (!existsSync(folder)) throw error; // otherwise another process was quicker
  }
  return folder;
}

/** Writes an archive's files side by side, for none of those used here has two of one name. */
function untar(file: string, folder: string): void {
  for (const { name, mode, bytes } of tarFiles(brotliDecompressSync(readFileSync(packed(file))))) {
    writeFileSync(join(folder, basename(name)), bytes, { mode });
  }
}

/** Folder with SwiftShader: `vk_swiftshader_icd.json`, its library, and a Vulkan loader `libvulkan.so.1`. 15 MB, about 1 s. */
export function unpackSwiftShader(): string {
  return cached('swiftshader', (folder) => untar('swiftshader.tar.br', folder));
}

/** Headless Chromium and the libraries it needs beside what every glibc system has. 215 MB, about 3 s. */
export function unpackChromium(): { executable: string; libraries: string } {
  const folder = cached('chromium', (partial) => {
    untar('swiftshader.tar.br', partial);
    untar('al2023.tar.br', partial);
    writeFileSync(join(partial, 'chromium'), brotliDecompressSync(readFileSync(packed('chromium.br'))));
    chmodSync(join(partial, 'chromium'), 0o755);
  });
  return { executable: join(folder, 'chromium'), libraries: folder };
}
