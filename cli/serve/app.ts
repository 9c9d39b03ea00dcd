/** The server's addresses: jobs, their progress and results, settings, the page, and A1111's enlarging of one picture. */
import { Readable } from 'node:stream';
import { type Context, Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import { UserError } from '../../core/errors.ts';
import { shown } from '../../core/text.ts';
import { keyOf, parseText, readOptions, type Schema } from '../../options/schema.ts';
import { FORMAT_NAMES, type FormatName } from '../picture-files.ts';
import { type Access, guard } from './access.ts';
import type { Job, Jobs, Wish } from './jobs.ts';
import { openApi } from './openapi.ts';
import { servePage } from './page.ts';

export interface Served {
  jobs: Jobs;
  access: Access;
  /** Of the method. */
  schema: Schema;
  /** What clients are told of the server. */
  about: Readonly<Record<string, unknown>>;
  /** Throws UserError for options that do not go together. */
  check(options: Readonly<Record<string, unknown>>): void;
}

/** Milliseconds between signs of life to those who wait for progress. */
const ALIVE = 15_000;
/** Milliseconds between two tellings of progress. */
const OFTEN = 250;

export function serveApp({ jobs, access, schema, about, check }: Served): Hono {
  const app = new Hono();
  app.use('*', async (context, next) => {
    context.header('x-content-type-options', 'nosniff');
    context.header('referrer-policy', 'no-referrer');
    context.header('cross-origin-resource-policy', 'same-origin');
    await next();
  });
  app.use('*', guard(access));
  app.onError((error, context) => {
    if (!(error instanceof UserError)) process.stderr.write(`${error.stack}\n`);
    return error instanceof UserError
      ? context.json({ error: error.message }, STATUS[error.code ?? ''] ?? 400)
      : context.json({ error: 'The server failed; its own output says why.' }, 500);
  });
  app.notFound((context) => context.json({ error: 'There is nothing at this address; /openapi.json tells what there is.' }, 404));

  app.get('/', (context) => servePage(context));
  app.get('/openapi.json', (context) => context.json(openApi(schema)));
  app.get('/api/about', (context) => context.json({ ...about, waiting: jobs.list().filter(({ state }) => state === 'queued').length }));
  app.get('/api/options', (context) => context.json(schema));
  app.get('/api/jobs', (context) => context.json({ jobs: jobs.list().map((job) => told(job, jobs)) }));

  app.post('/api/jobs', async (context) => {
    const wish = readWish(context.req.query(), schema);
    check(wish.options);
    refuseTooLong(context, jobs.limits.upload);
    const job = await jobs.add(wish, bodyOf(context));
    return context.json(told(job, jobs), 202, { location: `/api/jobs/${job.id}` });
  });
  app.get('/api/jobs/:id', (context) => context.json(told(found(context, jobs), jobs)));
  app.delete('/api/jobs/:id', async (context) => {
    await jobs.remove(found(context, jobs).id);
    return context.body(null, 204);
  });
  app.post('/api/jobs/:id/cancel', async (context) => {
    const { id } = found(context, jobs);
    await jobs.cancel(id);
    return context.json(told((await jobs.settled(id)) ?? found(context, jobs), jobs));
  });
  app.get('/api/jobs/:id/result', (context) => {
    const { id, state, result, name, format, error } = found(context, jobs);
    if (!result) return context.json({ error: error ?? `The job is ${state}: there is no result.` }, 409);
    const file = `${name.replace(/\.[^.]*$/, '')}.${format}`;
    context.header('content-type', result.type);
    context.header('content-length', String(result.bytes));
    context.header('content-disposition', `attachment; filename*=UTF-8''${encodeURIComponent(file).replace(/['()*]/g, escape)}`);
    return context.body(Readable.toWeb(jobs.result(id)) as ReadableStream);
  });
  app.get('/api/jobs/:id/events', (context) => {
    const job = found(context, jobs);
    return streamSSE(context, async (stream) => {
      let last = 0;
      let wake = () => {};
      let changed = true;
      const stop = jobs.watch(job.id, () => {
        changed = true;
        wake();
      });
      stream.onAbort(() => wake());
      try {
        for (let state = ''; !stream.aborted; ) {
          if (changed) {
            changed = false;
            last = Date.now();
            await stream.writeSSE({ event: job.state === state ? 'progress' : 'state', data: JSON.stringify(told(job, jobs)) });
            state = job.state;
            if (isOver(job)) return;
          } else if (Date.now() - last >= ALIVE) {
            last = Date.now();
            await stream.write(': waiting\n\n');
          }
          await new Promise<void>((resolve) => {
            let timer = setTimeout(resolve, ALIVE);
            // What comes often is told together; an end is told at once.
            wake = () => {
              clearTimeout(timer);
              timer = setTimeout(resolve, stream.aborted || isOver(job) ? 0 : Math.max(0, last + OFTEN - Date.now()));
            };
            if (changed || stream.aborted) wake();
          });
        }
      } finally {
        stop();
      }
    });
  });

  app.get('/sdapi/v1/upscalers', (context) =>
    context.json([{ name: 'SUPIR', model_name: null, model_path: null, model_url: null, scale: 4 }]),
  );
  app.post('/sdapi/v1/extra-single-image', async (context) => {
    refuseTooLong(context, 1.4 * jobs.limits.upload);
    const { photo, options } = await readSdapi(context, 1.4 * jobs.limits.upload, schema);
    check(options);
    const wish: Wish = { name: 'image.png', options, format: 'png', quality: 95, bits: 8 };
    const { id } = await jobs.add(
      wish,
      (async function* () {
        yield photo;
      })(),
    );
    const { signal } = context.req.raw;
    const gone = () => void jobs.cancel(id);
    signal.addEventListener('abort', gone);
    try {
      if (signal.aborted) gone();
      const job = await jobs.settled(id);
      if (job?.state !== 'done') throw new UserError(job?.error ?? 'The job was cancelled.', { code: 'job-failed' });
      const parts: Buffer[] = [];
      for await (const part of jobs.result(id)) parts.push(part as Buffer);
      return context.json({ html_info: '', image: Buffer.concat(parts).toString('base64') });
    } finally {
      signal.removeEventListener('abort', gone);
      await jobs.remove(id);
    }
  });
  return app;
}

const STATUS: Record<string, 400 | 404 | 413 | 422 | 503> = {
  'queue-full': 503,
  'upload-too-large': 413,
  'no-job': 404,
  'job-failed': 422,
};

const isOver = ({ state }: Job): boolean => state !== 'queued' && state !== 'running';

/** A job as clients see it. */
function told(job: Job, jobs: Jobs): object {
  return { ...job, ...(job.state === 'queued' ? { ahead: jobs.ahead(job.id) } : {}) };
}

function found(context: Context, jobs: Jobs): Job {
  const job = jobs.get(context.req.param('id') ?? '');
  if (!job) throw new UserError('There is no such job.', { code: 'no-job' });
  return job;
}

/** What is asked for beside the photo, typed as on the command line: ?upscale=2&format=png. Throws UserError. */
export function readWish(query: Readonly<Record<string, string>>, schema: Schema): Wish {
  const { name = 'photo', format = 'png', quality = '95', bits = '8', options: json, preset, ...typed } = query;
  if (!FORMAT_NAMES.includes(format as FormatName))
    throw new UserError(`format is ${shown(format)}; it must be one of ${FORMAT_NAMES.join(', ')}.`);
  if (!/^\d+$/.test(quality) || Number(quality) < 1 || Number(quality) > 100)
    throw new UserError(`quality is ${shown(quality)}; it must be from 1 to 100.`);
  if (bits !== '8' && bits !== '16') throw new UserError(`bits is ${shown(bits)}; it must be 8 or 16.`);
  if (bits === '16' && (format === 'jpg' || format === 'webp')) throw new UserError(`${format} has no 16 bits: take png, tif or avif.`);
  const given = Object.entries(typed).map(([key, text]) => {
    const known = keyOf(schema, key);
    if (known === undefined)
      throw new UserError(`There is no option ${shown(key)}; /api/options tells what there is.`, { code: 'unknown-option' });
    try {
      return [known, parseText(schema[known], text)];
    } catch (error) {
      throw error instanceof UserError ? new UserError(`${known}: ${error.message}`) : error;
    }
  });
  const options = { ...readOptions(schema, json === undefined ? {} : parseJson(json), {}), ...Object.fromEntries(given) };
  return {
    name: shown(name, 200),
    format: format as FormatName,
    quality: Number(quality),
    bits: bits === '16' ? 16 : 8,
    options: { ...options, ...(preset === undefined ? {} : { preset }) },
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UserError('It must be JSON.');
  }
}

/** Refuses by the length that a request says it has. */
function refuseTooLong(context: Context, most: number): void {
  if (Number(context.req.header('content-length') ?? 0) > most)
    throw new UserError(`The photo is larger than ${Math.floor(most / 1e6)} MB.`, { code: 'upload-too-large' });
}

async function* bodyOf(context: Context): AsyncIterable<Uint8Array> {
  const { body } = context.req.raw;
  if (body) yield* body as unknown as AsyncIterable<Uint8Array>;
}

/** A1111's request, of which the picture and how much it is enlarged count. Throws UserError. */
async function readSdapi(context: Context, most: number, schema: Schema): Promise<{ photo: Uint8Array; options: Record<string, unknown> }> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of bodyOf(context)) {
    size += part.length;
    if (size > most) throw new UserError(`The request is larger than ${Math.floor(most / 1e6)} MB.`, { code: 'upload-too-large' });
    parts.push(part);
  }
  const request = parseJson(Buffer.concat(parts).toString()) as { image?: unknown; upscaling_resize?: unknown; resize_mode?: unknown };
  if (typeof request?.image !== 'string') throw new UserError('image is missing; it must be a picture in base64.');
  if (request.resize_mode === 1) throw new UserError('resize_mode 1 (to a size) is not known here; give upscaling_resize, a factor.');
  const base64 = request.image.replace(/^data:[^,]*,/, '');
  if (!/^[A-Za-z0-9+/\s]*=*\s*$/.test(base64)) throw new UserError('image is no base64.');
  const upscale = request.upscaling_resize ?? 2;
  return { photo: Buffer.from(base64, 'base64'), options: readOptions(schema, { upscale }, {}) };
}
