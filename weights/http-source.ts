/**
 * Files on the web, read by range requests (RFC 9110, sec. 14). A connection that dies is taken up where it broke off; a file that changes meanwhile is
 * noticed by its entity tag.
 */
import { UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import { type ByteSource, checkRange } from './byte-source.ts';

export interface HttpOptions {
  /** Default: the platform's. */
  fetch?: typeof fetch;
  /** Times a request is tried again without any progress before it is given up. Default 4. */
  retries?: number;
  /** Milliseconds without a byte after which a try is given up; after SILENT_TRIES such tries in a row the file is. Default 15 000: 45 seconds in all. */
  silence?: number;
  /** Milliseconds before a new try that follows one without progress; doubled for each further one. Default 500. */
  delay?: number;
  signal?: AbortSignal;
}

/** Tries that end in silence before a file is given up. */
const SILENT_TRIES = 3;

/** A server that accepts a connection and says nothing. */
class Silence extends Error {}

/** What a server says about a file: enough to notice that it has become another one. */
export interface HttpFile extends ByteSource {
  readonly url: string;
  /** Entity tag or date of last change; '' if the server tells neither. */
  readonly version: string;
}

/**
 * Opens a file by its address, asking for one byte.
 * @throws UserError if the file is not there, the server does not serve ranges, or it cannot be reached.
 */
export async function httpSource(
  url: string,
  { fetch = globalThis.fetch, retries = 4, delay = 500, silence = 15_000, signal }: HttpOptions = {},
): Promise<HttpFile> {
  const name = nameOf(url);

  /** Bytes [from, to], or those of them that arrived before the connection broke. */
  async function request(from: number, to: number, version: string, take: (part: Uint8Array) => void): Promise<Response> {
    // Parts of a compressed form would be parts of something else; browsers ask so by themselves.
    const headers: Record<string, string> = { Range: `bytes=${from}-${to}`, 'Accept-Encoding': 'identity' };
    if (version) headers['If-Range'] = version;
    const stop = new AbortController();
    const signals = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
    const heard = <T>(answer: Promise<T>): Promise<T> => unlessSilent(answer, silence, stop, signal);
    const response = await heard(fetch(url, { headers, signal: signals }));
    const coding = response.headers.get('Content-Encoding');
    if (coding !== null && coding !== '' && coding !== 'identity') {
      await response.body?.cancel();
      throw new UserError(
        `${url}: the server compresses the file (${coding}) although it was asked not to, so parts of it cannot be read. Download it and open it from disk.`,
      );
    }
    if (response.status >= 500 || response.status === 429) throw new Error(`it answered ${response.status} ${response.statusText}`);
    if (response.status === 206) {
      const begin = /^bytes (\d+)-/.exec(response.headers.get('Content-Range') ?? '')?.[1];
      // Browsers may hide the header from other origins' scripts; then the status must do.
      if (begin === undefined || Number(begin) === from) {
        for await (const part of partsOf(response, heard)) take(part);
        return response;
      }
    }
    await response.body?.cancel();
    throw refusal(url, response, version !== '' || response.status !== 200);
  }

  /** Tries until all of [offset, offset + length) is there; every try goes on where the last one ended. */
  async function download(
    offset: number,
    length: number,
    version: string,
  ): Promise<{ bytes: Uint8Array<ArrayBuffer>; response: Response }> {
    const bytes = new Uint8Array(length);
    let done = 0;
    let [failures, silent] = [0, 0];
    for (;;) {
      const before = done;
      try {
        const response = await request(offset + done, offset + length - 1, version, (part) => {
          if (done + part.length > length) throw new UserError(`${url}: the server sent more bytes than were asked for.`);
          bytes.set(part, done);
          done += part.length;
        });
        if (done === length) return { bytes, response };
        throw new Error('the connection ended early');
      } catch (cause) {
        if (cause instanceof UserError) throw cause;
        signal?.throwIfAborted();
        failures = done > before ? 0 : failures + 1;
        silent = !(cause instanceof Silence) ? 0 : done > before ? 1 : silent + 1;
        if (silent >= SILENT_TRIES)
          throw new UserError(
            `${url}: the server said nothing for ${Math.round(silence / 1000)} seconds, ${SILENT_TRIES} times. Check the address and the connection, and try again later.`,
            { cause },
          );
        if (failures > retries) throw unreachable(url, offset + done, retries, cause);
        if (failures > 0) await new Promise((resolve) => setTimeout(resolve, delay * 2 ** (failures - 1)));
      }
    }
  }

  const { response } = await download(0, 1, '');
  const total = /\/(\d+)$/.exec(response.headers.get('Content-Range') ?? '')?.[1];
  if (total === undefined)
    throw new UserError(
      `${url}: the server does not say how long the file is. If it is another site's, it must allow scripts to see Content-Range (Access-Control-Expose-Headers). Download the file and open it from disk.`,
    );
  const tag = response.headers.get('ETag') ?? '';
  const version = tag.startsWith('W/') || !tag ? (response.headers.get('Last-Modified') ?? '') : tag; // weak tags do not vouch for ranges
  const source: HttpFile = {
    name,
    url,
    version,
    size: Number(total),
    async read(offset, length) {
      checkRange(source, offset, length);
      return length === 0 ? new Uint8Array(0) : (await download(offset, length, version)).bytes;
    },
  };
  return source;
}

/** The last part of an address's path. Throws UserError for what is no address of the web. */
function nameOf(url: string): string {
  let path: string;
  try {
    path = new URL(url).pathname;
  } catch (cause) {
    throw new UserError(`${shown(url, 300)} is no address of the web: one is like https://example.org/model.safetensors.`, { cause });
  }
  const last = path.split('/').pop() || url;
  try {
    return decodeURIComponent(last);
  } catch {
    return last; // a percent sign that begins no code is one
  }
}

/** The answer, or Silence when there is none for so long, or the signal's reason; the request is stopped then. */
async function unlessSilent<T>(answer: Promise<T>, milliseconds: number, stop: AbortController, signal?: AbortSignal): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let aborted = () => {};
  const end = new Promise<never>((_, reject) => {
    aborted = () => reject(signal!.reason);
    if (signal?.aborted) aborted();
    signal?.addEventListener('abort', aborted);
    timer = setTimeout(() => {
      reject(new Silence(`nothing was heard for ${milliseconds} ms`));
      stop.abort();
    }, milliseconds);
  });
  try {
    return await Promise.race([answer, end]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', aborted);
  }
}

async function* partsOf(response: Response, heard: <T>(answer: Promise<T>) => Promise<T>): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (!reader) return;
  try {
    for (let next = await heard(reader.read()); !next.done; next = await heard(reader.read())) yield next.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

function refusal(url: string, response: Response, mayHaveChanged: boolean): UserError {
  const { status, statusText } = response;
  if (status === 404 || status === 410) return new UserError(`${url} is not there (${status}). Check the address.`);
  if (status === 401 || status === 403)
    return new UserError(`${url} is not open to everyone (${status} ${statusText}). Download it with your account and open it from disk.`);
  if (status === 416) return new UserError(`${url} has become shorter, or is empty (416). Open it again.`);
  if (status === 200 && mayHaveChanged) return new UserError(`${url} was changed on the server while it was read. Open it again.`);
  if (status === 200 || status === 206)
    return new UserError(
      `${url}: the server does not serve parts of files (range requests), so a large file cannot be read from it. Download it and open it from disk.`,
    );
  return new UserError(
    `${url}: the server answered ${status} ${statusText}. Check the address, or download the file and open it from disk.`,
  );
}

function unreachable(url: string, at: number, retries: number, cause: unknown): UserError {
  const reason = cause instanceof Error ? ((cause.cause as Error | undefined)?.message ?? cause.message) : String(cause);
  return new UserError(
    `${url} cannot be read from byte ${at} on: ${reason} (tried ${retries + 1} times). Check the connection and run the command again.`,
    { cause },
  );
}
