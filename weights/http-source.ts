/**
 * Files on the web, read by range requests (RFC 9110, sec. 14). A connection that dies is taken up where it broke off; a file that changes meanwhile is
 * noticed by its entity tag.
 */
import { UserError } from '../core/errors.ts';
import { type ByteSource, checkRange } from './byte-source.ts';

export interface HttpOptions {
  /** Default: the platform's. */
  fetch?: typeof fetch;
  /** Times a request is tried again without any progress before it is given up. Default 4. */
  retries?: number;
  /** Milliseconds before a new try that follows one without progress; doubled for each further one. Default 500. */
  delay?: number;
  signal?: AbortSignal;
}

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
  { fetch = globalThis.fetch, retries = 4, delay = 500, signal }: HttpOptions = {},
): Promise<HttpFile> {
  const name = decodeURIComponent(new URL(url).pathname.split('/').pop() || url);

  /** Bytes [from, to], or those of them that arrived before the connection broke. */
  async function request(from: number, to: number, version: string, take: (part: Uint8Array) => void): Promise<Response> {
    const headers: Record<string, string> = { Range: `bytes=${from}-${to}` };
    if (version) headers['If-Range'] = version;
    const response = await fetch(url, { headers, signal });
    if (response.status >= 500 || response.status === 429) throw new Error(`it answered ${response.status} ${response.statusText}`);
    if (response.status === 206) {
      const begin = /^bytes (\d+)-/.exec(response.headers.get('Content-Range') ?? '')?.[1];
      // Browsers may hide the header from other origins' scripts; then the status must do.
      if (begin === undefined || Number(begin) === from) {
        for await (const part of partsOf(response)) take(part);
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
    let failures = 0;
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

async function* partsOf(response: Response): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (!reader) return;
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
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
