/**
 * The jobs of the server: a queue that works them off one by one, and a folder each in which everything lies that is needed to go on after a restart.
 * Nothing outside the state folder is read or written.
 */
import { randomBytes } from 'node:crypto';
import { createReadStream, type ReadStream } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { UserError, type Warning } from '../../core/errors.ts';
import { shown } from '../../core/text.ts';
import type { FormatName } from '../picture-files.ts';

export type JobState = 'queued' | 'running' | 'done' | 'failed' | 'cancelled';

/** What a client asks for beside the photo. */
export interface Wish {
  /** The photo's name, for people. */
  name: string;
  /** Options by their keys, checked. */
  options: Readonly<Record<string, unknown>>;
  format: FormatName;
  quality: number;
  bits: 8 | 16;
}

export interface Job extends Wish {
  id: string;
  state: JobState;
  /** ISO 8601. */
  created: string;
  finished?: string;
  /** 0 to 1, and what is being done. */
  progress?: { share: number; stage: string; secondsLeft: number | null };
  error?: string;
  warnings: Warning[];
  result?: { type: string; bytes: number; width: number; height: number; seconds: number };
}

export interface Made {
  bytes: Uint8Array;
  type: string;
  width: number;
  height: number;
}

/** What restores a photo. `folder` keeps its last step, to go on from. Throws for what is wrong with it. */
export type Restoring = (
  photo: Uint8Array,
  wish: Wish,
  events: { signal: AbortSignal; folder: string; progress(at: NonNullable<Job['progress']>): void; warning(said: Warning): void },
) => Promise<Made>;

export interface JobLimits {
  /** Jobs that wait at most. */
  queue: number;
  /** Bytes of an upload. */
  upload: number;
  /** Hours that results are kept. */
  keep: number;
}

export const JOB_LIMITS: JobLimits = { queue: 1000, upload: 100e6, keep: 24 };

/** Jobs that are over, and that are kept at most: the oldest leave. */
const MOST_OVER = 5000;
const ID = /^[0-9a-f]{32}$/;

type Listener = (job: Job) => void;

export class Jobs {
  private readonly all = new Map<string, Job>();
  private readonly listeners = new Map<string, Set<Listener>>();
  private readonly folder: string;
  private readonly restoring: Restoring;
  readonly limits: JobLimits;
  private current: { id: string; controller: AbortController } | null = null;
  private working: Promise<void> | null = null;
  private closed = false;
  /** Uploads under way, which will be jobs. */
  private uploads = 0;

  private constructor(folder: string, restoring: Restoring, limits: JobLimits) {
    this.folder = folder;
    this.restoring = restoring;
    this.limits = limits;
  }

  /** Opens the state folder: what was under way is queued again, and what broke off while it was uploaded is removed. */
  static async open(folder: string, restoring: Restoring, limits: Partial<JobLimits> = {}): Promise<Jobs> {
    const jobs = new Jobs(folder, restoring, { ...JOB_LIMITS, ...limits });
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const found: Job[] = [];
    for (const id of await readdir(folder)) {
      if (!ID.test(id)) continue;
      const job = await readFile(join(folder, id, 'job.json'), 'utf8').then(
        (text) => JSON.parse(text) as Job,
        () => null,
      );
      if (job?.id === id) found.push(job);
      else await rm(join(folder, id), { recursive: true, force: true });
    }
    for (const job of found.sort((a, b) => (a.created < b.created ? -1 : 1))) {
      if (job.state === 'running') job.state = 'queued';
      jobs.all.set(job.id, job);
    }
    await jobs.sweep();
    jobs.work();
    return jobs;
  }

  list(): Job[] {
    return [...this.all.values()];
  }

  get(id: string): Job | undefined {
    return this.all.get(id);
  }

  /** Jobs before this one in the queue, the one at work included. */
  ahead(id: string): number {
    const waiting = this.list().filter(({ state }) => state === 'queued' || state === 'running');
    return Math.max(
      0,
      waiting.findIndex((job) => job.id === id),
    );
  }

  /**
   * Takes a photo as it comes and queues it. Throws UserError where too many wait (code `queue-full`), where it is too large (`upload-too-large`), empty or
   * breaks off (`upload-broken`); nothing is left of it then.
   */
  async add(wish: Wish, photo: AsyncIterable<Uint8Array>): Promise<Job> {
    const waiting = this.list().filter(({ state }) => state === 'queued').length;
    if (this.closed || waiting + this.uploads >= this.limits.queue)
      throw new UserError(`${waiting} photos wait already; try again later.`, { code: 'queue-full' });
    const id = randomBytes(16).toString('hex');
    const folder = join(this.folder, id);
    this.uploads++;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await this.receive(join(folder, 'photo'), photo);
      const job: Job = { ...wish, id, state: 'queued', created: new Date().toISOString(), warnings: [] };
      await this.save(job);
      this.all.set(id, job);
      this.work();
      return job;
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    } finally {
      this.uploads--;
    }
  }

  private async receive(path: string, photo: AsyncIterable<Uint8Array>): Promise<void> {
    const file = await open(path, 'wx', 0o600);
    let size = 0;
    try {
      for await (const part of photo) {
        size += part.length;
        if (size > this.limits.upload)
          throw new UserError(`The photo is larger than ${this.limits.upload / 1e6} MB.`, { code: 'upload-too-large' });
        await file.write(part);
      }
    } catch (cause) {
      if (cause instanceof UserError) throw cause;
      throw new UserError('The upload broke off.', { code: 'upload-broken', cause });
    } finally {
      await file.close();
    }
    if (size === 0) throw new UserError('The request has no photo in its body.', { code: 'upload-broken' });
  }

  /** The result's bytes, as they are read from the disk. */
  result(id: string): ReadStream {
    return createReadStream(join(this.folder, id, 'result'));
  }

  /** Calls `listener` with every change of a job until the function that is returned is called. */
  watch(id: string, listener: Listener): () => void {
    const set = this.listeners.get(id) ?? new Set();
    this.listeners.set(id, set.add(listener));
    return () => {
      set.delete(listener);
      if (set.size === 0 && this.listeners.get(id) === set) this.listeners.delete(id);
    };
  }

  /** Listeners in all, which tests look at. */
  get watched(): number {
    return [...this.listeners.values()].reduce((sum, set) => sum + set.size, 0);
  }

  /** Ends a job that waits or is at work. */
  async cancel(id: string): Promise<void> {
    const job = this.all.get(id);
    if (job?.state === 'queued') await this.end(job, { state: 'cancelled' });
    else if (job?.state === 'running' && this.current?.id === id) this.current.controller.abort(new Cancelled());
  }

  /** Forgets a job and all that is left of it. */
  async remove(id: string): Promise<void> {
    await this.cancel(id);
    if (this.current?.id === id) await this.settled(id);
    if (!this.all.delete(id)) return;
    this.listeners.delete(id);
    await rm(join(this.folder, id), { recursive: true, force: true });
  }

  /** Resolves when the job is over, or gone. */
  async settled(id: string): Promise<Job | undefined> {
    const isOver = () => {
      const job = this.all.get(id);
      return !job || (job.state !== 'queued' && job.state !== 'running');
    };
    if (!isOver()) {
      await new Promise<void>((resolve) => {
        const stop = this.watch(id, () => {
          if (!isOver()) return;
          stop();
          resolve();
        });
      });
    }
    return this.all.get(id);
  }

  /** Stops: the job at work keeps its last step, and is queued when the folder is opened again. */
  async close(): Promise<void> {
    this.closed = true;
    this.current?.controller.abort(new Closing());
    await this.working;
  }

  private work(): void {
    this.working ??= this.workOff().finally(() => {
      this.working = null;
    });
  }

  private async workOff(): Promise<void> {
    for (let job = this.next(); job && !this.closed; job = this.next()) await this.restore(job);
  }

  private next(): Job | undefined {
    return this.list().find(({ state }) => state === 'queued');
  }

  private async restore(job: Job): Promise<void> {
    const controller = new AbortController();
    const { signal } = controller;
    const folder = join(this.folder, job.id);
    this.current = { id: job.id, controller };
    const begun = performance.now();
    try {
      await this.change(job, { state: 'running' });
      const made = await this.restoring(await readFile(join(folder, 'photo')), job, {
        signal,
        folder: join(folder, 'step'),
        progress: (progress) => {
          job.progress = progress; // a restart need not know it
          this.tell(job);
        },
        warning: (said) => void job.warnings.push(said),
      });
      signal.throwIfAborted();
      await replace(join(folder, 'result'), made.bytes);
      const { type, width, height, bytes } = made;
      const seconds = (performance.now() - begun) / 1000;
      await this.end(job, { state: 'done', result: { type, bytes: bytes.length, width, height, seconds } });
    } catch (error) {
      if (signal.reason instanceof Closing) job.state = 'queued';
      else if (signal.aborted) await this.end(job, { state: 'cancelled' });
      else await this.end(job, { state: 'failed', error: shown((error as Error).message, 2000) });
    } finally {
      this.current = null;
    }
  }

  /** The photo is not needed any more, nor are its steps. */
  private async end(job: Job, change: Partial<Job>): Promise<void> {
    delete job.progress;
    await this.change(job, { ...change, finished: new Date().toISOString() });
    for (const name of ['photo', 'step']) await rm(join(this.folder, job.id, name), { recursive: true, force: true });
    await this.sweep();
  }

  private async change(job: Job, change: Partial<Job>): Promise<void> {
    Object.assign(job, change);
    // A job that was removed meanwhile is not written again.
    if (this.all.has(job.id)) await this.save(job).catch((error: Error) => process.stderr.write(`Warning: ${error.message}\n`));
    this.tell(job);
  }

  private tell(job: Job): void {
    for (const listener of [...(this.listeners.get(job.id) ?? [])]) listener(job);
  }

  private save(job: Job): Promise<void> {
    return replace(join(this.folder, job.id, 'job.json'), JSON.stringify(job));
  }

  /** Removes what has been over for long, and the oldest of too many. */
  private async sweep(): Promise<void> {
    const over = this.list().filter(({ finished }) => finished !== undefined);
    const old = Date.now() - this.limits.keep * 3_600_000;
    for (const [i, job] of over.entries())
      if (Date.parse(job.finished!) < old || i < over.length - MOST_OVER) {
        this.all.delete(job.id);
        await rm(join(this.folder, job.id), { recursive: true, force: true });
      }
  }
}

class Cancelled extends Error {
  override name = 'Cancelled';
}

class Closing extends Error {
  override name = 'Closing';
}

/** Writes a file for this user alone; another of that name is there until the new one is whole. */
async function replace(path: string, data: string | Uint8Array): Promise<void> {
  await writeFile(`${path}.part`, data, { mode: 0o600 });
  await rename(`${path}.part`, path);
}
