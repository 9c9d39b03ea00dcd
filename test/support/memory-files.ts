/** Files in memory, with a disk that can be full. */
import { UserError } from '../../core/errors.ts';
import type { Files } from '../../host/host.ts';
import { bytesSource } from '../../weights/byte-source.ts';

export class MemoryFiles implements Files {
  readonly files = new Map<string, Uint8Array<ArrayBuffer>>();
  /** Writes fail once this many bytes are stored. */
  capacity = Number.POSITIVE_INFINITY;

  async readFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = this.files.get(path);
    if (!bytes) throw new UserError(`Cannot read ${path}: it does not exist.`);
    return bytes.slice();
  }

  async fileSource(path: string) {
    return bytesSource(path, await this.readFile(path));
  }

  async writeFileAtomic(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const others = [...this.files].reduce((sum, [name, { length }]) => sum + (name === path ? 0 : length), 0);
    if (others + bytes.length > this.capacity) throw new UserError(`Cannot write ${path}: the disk is full.`);
    this.files.set(path, bytes.slice());
  }

  async list(folder: string): Promise<string[]> {
    const inside = [...this.files.keys()].filter((path) => path.startsWith(`${folder}/`)).map((path) => path.slice(folder.length + 1));
    return inside.filter((name) => !name.includes('/')).sort();
  }

  async exists(path: string): Promise<boolean> {
    return this.files.has(path);
  }

  async remove(path: string): Promise<void> {
    this.files.delete(path);
  }
}
