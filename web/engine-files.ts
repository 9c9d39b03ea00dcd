/**
 * The files that the engine can open: the demo model's beside the page, and those a person gave, from disk, from a web address or kept in the
 * browser's private storage from an earlier visit. To the library they are folders of a host: `demo`, `own` and `lora`; all else, such as the
 * state of runs, is the private file system.
 */

import { factsOf, UserError, type Warning } from '../core/errors.ts';
import { parseJsonBytes } from '../core/json.ts';
import { sentence } from '../core/text.ts';
import { host as browserHost } from '../host/browser.ts';
import type { Host } from '../host/host.ts';
import { opfsStore } from '../host/opfs-store.ts';
import { adviceFor, described, inspection } from '../restore/inspection.ts';
import { type ByteSource, blobSource, bytesSource } from '../weights/byte-source.ts';
import { openWeights } from '../weights/folder.ts';
import { httpSource } from '../weights/http-source.ts';
import { describeMissing } from '../weights/model-files.ts';
import { cachedSource } from '../weights/range-cache.ts';
import type { TensorFile } from '../weights/tensor-file.ts';
import type { GivenFile, InspectedFile, InspectedFiles, KeptFile } from './protocol.ts';

/** The demo model, beside the page. */
const DEMO = ['config.json', 'tokenizer.json', 'sdxl.safetensors', 'supir.safetensors'];

/** Bytes of a kept block. */
const BLOCK = 2 ** 24;
/** What is kept, by id, as a file of the private file system. */
const MANIFEST = 'kept/manifest.json';

interface Opened {
  source: ByteSource;
  /** Tells the file apart from others of its name. */
  id: string;
}

export class EngineFiles {
  private readonly own = new Map<string, Opened>();
  /** LoRA files by the path that the library opens them by. */
  readonly loras = new Map<string, File>();
  private readonly demo = new Map<string, Uint8Array>();
  private saving = true;
  /** Called once when the private storage takes nothing more. */
  storageFull: ((warning: Warning) => void) | null = null;

  /** The host that the library works on. */
  readonly host: Host = {
    ...browserHost,
    fileSource: async (path) => {
      const [folder, name] = split(path);
      if (folder === 'demo') return bytesSource(name, await this.demoFile(name));
      const lora = this.loras.get(path);
      if (lora) return blobSource(lora.name, lora);
      const opened = folder === 'own' ? this.own.get(name) : undefined;
      if (folder === 'own' && !opened) throw new UserError(`${name} is not among the files that were given.`);
      return opened?.source ?? browserHost.fileSource(path);
    },
    exists: async (path) => this.loras.has(path) || browserHost.exists(path),
    list: async (folder) => {
      if (folder === 'demo') return DEMO;
      if (folder !== 'own' && !folder.startsWith('own/')) return browserHost.list(folder);
      const inside = folder === 'own' ? '' : `${folder.slice(4)}/`;
      return [...this.own.keys()].filter((path) => path.startsWith(inside) && !path.slice(inside.length).includes('/'));
    },
    // A run whose state cannot be kept goes on without.
    writeFileAtomic: async (path, bytes) => {
      if (!this.saving) return;
      await browserHost.writeFileAtomic(path, bytes).catch((error) => {
        this.saving = false;
        this.storageFull?.({
          ...factsOf(error),
          code: 'state-not-kept',
          message: `${sentence(error.message)} The work goes on, but it cannot be taken up again if it is interrupted.`,
        });
      });
    },
  };

  /** Fetches the demo model; the page's service worker keeps it for visits without a network. */
  async fetchDemo(progress: (done: number, of: number) => void): Promise<void> {
    const missing = DEMO.filter((name) => !this.demo.has(name));
    const responses = await Promise.all(missing.map((name) => fetchDemoFile(name)));
    const of = responses.reduce((sum, response) => sum + Number(response.headers.get('content-length') ?? 0), 0);
    let done = 0;
    for (const [i, response] of responses.entries()) {
      const parts: Uint8Array<ArrayBuffer>[] = [];
      const reader = response.body!.getReader();
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        parts.push(next.value);
        progress((done += next.value.length), of);
      }
      this.demo.set(missing[i], new Uint8Array(await new Blob(parts).arrayBuffer()));
    }
  }

  private async demoFile(name: string): Promise<Uint8Array> {
    if (!this.demo.has(name)) await this.fetchDemo(() => {});
    return this.demo.get(name)!;
  }

  /** Takes files in, and says what all that were given are. */
  async add(given: readonly GivenFile[]): Promise<InspectedFiles> {
    for (const each of given) {
      if ('file' in each) {
        const { path, file } = each;
        this.own.set(path, { source: blobSource(path, file), id: `${path}-${file.size}-${file.lastModified}` });
      } else {
        const source = await httpSource(each.url);
        this.own.set(source.name, { source, id: `${each.url}-${source.size}-${source.version}` });
      }
    }
    return this.inspect();
  }

  async remove(path: string): Promise<InspectedFiles> {
    this.own.delete(path);
    return this.inspect();
  }

  /** Whether a config.json came along, which makes any sizes a model. */
  private get configured(): boolean {
    return this.own.has('config.json');
  }

  private async inspect(): Promise<InspectedFiles> {
    const kept = new Set((await this.kept()).map(({ id }) => id));
    const files: InspectedFile[] = [];
    const opened: { file: TensorFile; entry: InspectedFile }[] = [];
    for (const [path, { source, id }] of this.own) {
      const entry: InspectedFile = { path, size: source.size, title: '', details: [], problem: null, kept: kept.has(id) };
      files.push(entry);
      if (path.endsWith('.json')) {
        entry.title = path === 'config.json' ? 'Sizes and settings of the model.' : 'Goes with the other files.';
        continue;
      }
      try {
        opened.push({ file: await openWeights(this.host, `own/${path}`, path), entry });
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        entry.problem = { ...factsOf(error), message: error.message };
      }
    }
    const found = inspection(opened.map(({ file }) => file));
    for (const [i, { entry }] of opened.entries()) {
      const report = found.files[i];
      if (report.refusal) entry.problem = { message: `This is a ${report.title}. ${report.refusal}`, code: report.code };
      else Object.assign(entry, described(report, this.configured ? '' : adviceFor(report, found)));
    }
    return { files, missing: files.length > 0 ? found.missing : describeMissing({})! };
  }

  // Files kept in the private file system, block by block, so that keeping goes on where it was interrupted.

  private async store() {
    return opfsStore('kept-blocks');
  }

  async kept(): Promise<KeptFile[]> {
    if (!(await browserHost.exists(MANIFEST))) return [];
    return parseJsonBytes(await browserHost.readFile(MANIFEST), MANIFEST) as KeptFile[];
  }

  private async writeManifest(files: KeptFile[]): Promise<void> {
    await browserHost.writeFileAtomic(MANIFEST, new TextEncoder().encode(JSON.stringify(files)));
  }

  /** Copies a given file into the private storage. Throws UserError when the browser grants no room; the file stays usable from where it is. */
  async keep(path: string, progress: (done: number, of: number) => void, signal: AbortSignal): Promise<void> {
    const opened = this.own.get(path);
    if (!opened) throw new UserError(`${path} is not among the files that were given.`);
    const { source, id } = opened;
    await navigator.storage.persist?.();
    // What a browser says it would grant may be far less than it takes, so it is tried.
    const store = await this.store();
    for (let at = 0; at < source.size; at += BLOCK) {
      signal.throwIfAborted();
      const key = blockKey(id, at / BLOCK);
      const length = Math.min(BLOCK, source.size - at);
      if ((await store.get(key))?.size !== length) {
        const bytes = await source.read(at, length);
        await store.put(key, bytes).catch(async (cause) => {
          await this.forget(id, source.size);
          throw new UserError(
            `${path} takes ${gigabytes(source.size)}, and this browser keeps no more than ${gigabytes(at)} of it. The file works from where it is, it only has to be chosen again at the next visit. Free disk space, or remove files that are kept.`,
            { cause },
          );
        });
      }
      progress(at + length, source.size);
    }
    const others = (await this.kept()).filter((file) => file.id !== id);
    await this.writeManifest([...others, { id, path, size: source.size }]);
  }

  /** Removes a file's blocks, all that there are. */
  private async forget(id: string, size: number): Promise<void> {
    const store = await this.store();
    for (let i = 0; i * BLOCK < size; i++) await store.remove(blockKey(id, i));
  }

  /** Opens a kept file as if it had been given. */
  async openKept(id: string): Promise<InspectedFiles> {
    const file = (await this.kept()).find((each) => each.id === id);
    if (!file) throw new UserError('That file is not kept any more: give it again.');
    const gone: ByteSource = {
      name: file.path,
      size: file.size,
      read: () => Promise.reject(new UserError(`The browser has removed parts of ${file.path} from its storage: give the file again.`)),
    };
    this.own.set(file.path, { source: cachedSource(gone, id, await this.store(), { block: BLOCK }), id });
    return this.inspect();
  }

  async removeKept(id: string): Promise<KeptFile[]> {
    const files = await this.kept();
    const file = files.find((each) => each.id === id);
    if (file) await this.forget(id, file.size);
    const left = files.filter((each) => each !== file);
    await this.writeManifest(left);
    return left;
  }
}

/** As `cachedSource` names its blocks. */
function blockKey(id: string, index: number): string {
  return `${id}.${BLOCK}.${index}`;
}

function split(path: string): [folder: string, name: string] {
  const at = path.indexOf('/');
  return [path.slice(0, at), path.slice(at + 1)];
}

async function fetchDemoFile(name: string): Promise<Response> {
  const response = await fetch(new URL(`../demo/${name}`, import.meta.url)).catch(() => null);
  if (response?.ok) return response;
  throw new UserError(
    `The demo model's ${name} cannot be fetched from this site (${response ? `${response.status} ${response.statusText}` : 'no connection'}). Reload the page, or open weights of your own.`,
  );
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
