/**
 * Claims, by which processes on any number of machines share the photos of a folder: before a photo is restored a file is made for it, which only one
 * process can make, and whose time is renewed while its owner lives. A claim whose owner is gone is taken over. The time of the disk counts, not that of
 * machines, whose clocks may differ. What this rests on is that `link` and `rename` are atomic, as they are on local disks and NFS.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createWhole } from '../host/node-create.ts';
import { fileError } from '../host/node-files.ts';
import { type Owner, runs, thisProcess } from '../host/node-owner.ts';
import { temporaryPath, unwatch, watch } from '../host/node-temporary.ts';

/** A claim that was not renewed for so many seconds is its owner's no more. NFS may show times that are a minute old. */
export const STALE_SECONDS = 180;
/** Claims are renewed so many times within that. */
const RENEWALS = 9;

interface Claim extends Owner {
  /** Tells this claim from others of the same process. */
  id: string;
  photo: string;
  since: string;
  /** Why its owner could not restore the photo: nobody else need try before the claim is stale. */
  failed?: string;
}

/** How a photo that could not be claimed is held. */
export type Held = 'restoring' | 'failed';

export class Claims {
  private readonly folder: string;
  private readonly stale: number;
  private readonly held = new Set<string>();
  private timer: ReturnType<typeof setInterval> | null = null;

  /** Claims lie in `folder`, which is made. `stale`: seconds. */
  constructor(folder: string, stale = STALE_SECONDS) {
    this.folder = folder;
    this.stale = stale;
  }

  /**
   * Claims a photo by its path within the album: null where it is this process's now, else how it is held. Throws UserError where the folder cannot be
   * written to.
   */
  async take(key: string): Promise<Held | null> {
    const path = this.pathOf(key);
    const own: Claim = { ...thisProcess, id: randomBytes(8).toString('hex'), photo: key, since: new Date().toISOString() };
    try {
      await mkdir(this.folder, { recursive: true });
      for (;;) {
        if (await createWhole(path, JSON.stringify(own))) break;
        const there = await readFile(path, 'utf8').catch(() => null);
        if (there === null) continue; // given back meanwhile
        const claim = parse(there);
        if (!(await this.isLapsed(path, claim))) return claim?.failed === undefined ? 'restoring' : 'failed';
        if (await this.takeOver(path, there, JSON.stringify(own))) break;
        return 'restoring';
      }
    } catch (cause) {
      throw fileError('claim photos in', this.folder, cause);
    }
    this.keep(path);
    return null;
  }

  /** Gives a photo back that is done. */
  async done(key: string): Promise<void> {
    const path = this.pathOf(key);
    this.release(path);
    await rm(path, { force: true });
  }

  /** Says that a photo could not be restored; others leave it alone until the claim is stale. */
  async failed(key: string, why: string): Promise<void> {
    const path = this.pathOf(key);
    this.release(path);
    const claim = parse(await readFile(path, 'utf8').catch(() => ''));
    if (!claim) return;
    await this.replace(path, JSON.stringify({ ...claim, failed: why.slice(0, 300) }));
  }

  /** Gives back what is held: another may go on with it. */
  async close(): Promise<void> {
    for (const path of [...this.held]) {
      this.release(path);
      await rm(path, { force: true });
    }
  }

  private pathOf(key: string): string {
    return join(this.folder, `${createHash('sha256').update(key.normalize('NFC')).digest('hex').slice(0, 32)}.json`);
  }

  private keep(path: string): void {
    watch(path);
    this.held.add(path);
    this.timer ??= setInterval(() => void this.renew(), (this.stale * 1000) / RENEWALS).unref();
  }

  private release(path: string): void {
    unwatch(path);
    this.held.delete(path);
    if (this.held.size > 0 || !this.timer) return;
    clearInterval(this.timer);
    this.timer = null;
  }

  private async renew(): Promise<void> {
    // The server's own time, where there is one: null is "now" in the call that every system has, and Node has none such.
    const now = await this.now();
    if (now !== null) for (const path of this.held) await utimes(path, now, now).catch(() => {});
  }

  private async replace(path: string, text: string): Promise<void> {
    const temporary = temporaryPath(this.folder);
    await writeFile(temporary, text);
    await rename(temporary, path);
  }

  /** The time by the disk, in seconds: that of a file which is made for it; null where none can be made. */
  private async now(): Promise<number | null> {
    const temporary = temporaryPath(this.folder);
    try {
      await writeFile(temporary, '');
      return (await stat(temporary)).mtimeMs / 1000;
    } catch {
      return null;
    } finally {
      await rm(temporary, { force: true });
    }
  }

  /** Whether nobody works on a claimed photo any more. */
  private async isLapsed(path: string, claim: Claim | null): Promise<boolean> {
    if (claim && claim.failed === undefined && runs(claim) === false) return true; // a process of this machine that is gone
    const [now, renewed] = [await this.now(), await stat(path).catch(() => null)];
    return now !== null && renewed !== null && now - renewed.mtimeMs / 1000 > this.stale;
  }

  /** Replaces a claim that has lapsed, of those that want to only one; false where another does, or did. */
  private async takeOver(path: string, was: string, text: string): Promise<boolean> {
    const right = `${path}.taking`;
    if (!(await createWhole(right, text))) {
      // One who died while taking over blocks nobody for longer than a claim.
      const [now, begun] = [await this.now(), await stat(right).catch(() => null)];
      if (now !== null && begun !== null && now - begun.mtimeMs / 1000 > this.stale) await rm(right, { force: true });
      return false;
    }
    try {
      if ((await readFile(path, 'utf8').catch(() => null)) !== was) return false;
      await this.replace(path, text);
      return true;
    } finally {
      await rm(right, { force: true });
    }
  }
}

function parse(text: string): Claim | null {
  try {
    const claim = JSON.parse(text) as Claim;
    return Number.isSafeInteger(claim.pid) && claim.pid > 0 && typeof claim.machine === 'string'
      ? { ...claim, began: Number(claim.began) }
      : null;
  } catch {
    return null;
  }
}
