import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { opfsStore } from '../../host/opfs-store.ts';
import { type ByteSource, bytesSource } from '../../weights/byte-source.ts';
import { httpSource } from '../../weights/http-source.ts';
import { type BlockStore, cachedSource } from '../../weights/range-cache.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { refused } from '../support/refused.ts';

const FILE = Uint8Array.from({ length: 1000 }, (_, i) => (i * 7) & 255);
const URL = 'https://example.org/models/sd%20xl.safetensors?download=true';

interface Server {
  fetch: typeof fetch;
  ranges: string[];
  etag: string;
  file: Uint8Array;
  /** Breaks the connection after so many bytes of a body, for the next requests. */
  breaks: number[];
  /** Statuses to answer the next requests with. */
  statuses: number[];
  ignoresRanges: boolean;
}

function server(more: Partial<Server> = {}): Server {
  const self: Server = {
    ranges: [],
    etag: '"v1"',
    file: FILE,
    breaks: [],
    statuses: [],
    ignoresRanges: false,
    async fetch(_url, init) {
      const headers = new Headers(init?.headers);
      const range = headers.get('Range')!;
      self.ranges.push(range);
      const status = self.statuses.shift();
      if (status === 0) throw new TypeError('fetch failed', { cause: new Error('ECONNRESET') });
      if (status) return new Response('', { status });
      const changed = headers.has('If-Range') && headers.get('If-Range') !== self.etag;
      if (self.ignoresRanges || changed) return new Response(self.file as Uint8Array<ArrayBuffer>, { status: 200 });
      const [from, to] = /(\d+)-(\d+)/.exec(range)!.slice(1).map(Number);
      const part = self.file.slice(from, to + 1);
      const cut = self.breaks.shift();
      const body = new ReadableStream<Uint8Array>(
        {
          pull(controller) {
            controller.enqueue(part.slice(0, cut));
            if (cut === undefined) controller.close();
            else controller.error(new TypeError('terminated'));
          },
        },
        { highWaterMark: 0 },
      );
      return new Response(body, { status: 206, headers: { 'Content-Range': `bytes ${from}-${to}/${self.file.length}`, ETag: self.etag } });
    },
    ...more,
  };
  return self;
}

const open = (from: Server) => httpSource(URL, { fetch: from.fetch, delay: 0, retries: 2 });

async function fails(action: () => Promise<unknown>, ...parts: RegExp[]): Promise<void> {
  const error = await action().then(
    () => undefined,
    (e) => e,
  );
  assert.instance(error, UserError);
  for (const part of parts) assert.match(error.message, part);
}

test('ranges are read, and nothing else', async () => {
  const from = server();
  const source = await open(from);
  assert.is(source.size, 1000);
  assert.is(source.name, 'sd xl.safetensors');
  assert.equal(await source.read(10, 5), FILE.slice(10, 15));
  assert.equal(await source.read(1000, 0), new Uint8Array(0));
  assert.equal(from.ranges, ['bytes=0-0', 'bytes=10-14']);
  await fails(() => source.read(999, 2), /bytes 999 to 1001/);
});

test('a checkpoint opens over the web', async () => {
  const file = encodeSafetensors([['a', { dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) }]]);
  const tensors = await openSafetensors(await open(server({ file })));
  assert.equal([...(await tensors.f32('a'))], [1, 2]);
});

test('a connection that dies is taken up where it broke off', async () => {
  const from = server();
  const source = await open(from);
  from.ranges.length = 0;
  from.breaks = [30, 0, 20];
  assert.equal(await source.read(100, 200), FILE.slice(100, 300));
  assert.equal(from.ranges, ['bytes=100-299', 'bytes=130-299', 'bytes=130-299', 'bytes=150-299']);
  from.statuses = [0, 503, 429];
  from.ranges.length = 0;
  await fails(() => source.read(0, 10), /cannot be read from byte 0 on: it answered 429.*tried 3 times/);
  from.statuses = [0, 503];
  assert.equal(await source.read(0, 10), FILE.slice(0, 10));
  from.statuses = [0, 0, 0];
  await fails(() => source.read(0, 10), /ECONNRESET/);
});

test('servers without ranges, and files that are absent, closed or changed', async () => {
  await fails(() => open(server({ ignoresRanges: true })), /does not serve parts of files/, /Download it/);
  await fails(() => open(server({ statuses: [404] })), /is not there/);
  await fails(() => open(server({ statuses: [403] })), /not open to everyone/);
  await fails(() => open(server({ statuses: [418] })), /answered 418/);
  const from = server();
  const source = await open(from);
  from.etag = '"v2"';
  await fails(() => source.read(0, 10), /was changed on the server/);
});

test('an aborted download stops at once', async () => {
  const abort = new AbortController();
  const from = server();
  const source = await httpSource(URL, { fetch: from.fetch, delay: 0, signal: abort.signal });
  from.statuses = [0];
  abort.abort(new Error('stopped'));
  const error = await source.read(0, 10).catch((e) => e);
  assert.is(error.message, 'stopped');
});

function mapStore(): BlockStore & { blocks: Map<string, Blob>; failing: boolean } {
  const store = {
    blocks: new Map<string, Blob>(),
    failing: false,
    get: async (key: string) => store.blocks.get(key) ?? null,
    async put(key: string, bytes: Uint8Array<ArrayBuffer>) {
      if (store.failing) throw new DOMException('full', 'QuotaExceededError');
      store.blocks.set(key, new Blob([bytes]));
    },
  };
  return store;
}

test('a cache fetches every block once, over interruptions, and tells its progress', async () => {
  const store = mapStore();
  const reads: number[] = [];
  const memory = bytesSource('m', FILE);
  const spied: ByteSource = {
    ...memory,
    read(offset, length) {
      reads.push(offset);
      return memory.read(offset, length);
    },
  };
  const progress: number[] = [];
  const first = cachedSource(spied, 'id', store, { block: 300, onProgress: (kept) => progress.push(kept) });
  assert.equal(await first.read(250, 100), FILE.slice(250, 350));
  assert.equal(reads, [0, 300]);
  const again = cachedSource(spied, 'id', store, { block: 300, onProgress: (kept) => progress.push(kept) });
  assert.equal(await again.read(0, 1000), FILE);
  assert.equal(reads, [0, 300, 600, 900]);
  assert.equal(progress, [300, 600, 900, 1000]);
  const other = cachedSource(spied, 'other version', store, { block: 300 });
  await Promise.all([other.read(0, 1), other.read(20, 5)]);
  assert.is(reads.length, 5);
  store.blocks.set('id.300.1', new Blob(['cut']));
  assert.equal(await again.read(300, 300), FILE.slice(300, 600));
  assert.is(reads.length, 6);
});

test('a full store is no reason to stop', async () => {
  const store = mapStore();
  store.failing = true;
  const source = cachedSource(bytesSource('m', FILE), 'id', store, { block: 300 });
  assert.equal(await source.read(0, 1000), FILE);
  assert.is(store.blocks.size, 0);
});

const hasOpfs = typeof navigator !== 'undefined' && !!navigator.storage?.getDirectory;
(hasOpfs ? test : test.skip)('blocks in the private file system', async () => {
  const store = await opfsStore('test-weights');
  const source = cachedSource(bytesSource('m', FILE), 'https://example.org/a*b "v1"', store, { block: 300 });
  assert.equal(await source.read(0, 1000), FILE);
  const kept = cachedSource(
    { ...bytesSource('m', FILE), read: () => Promise.reject(new Error('offline')) },
    'https://example.org/a*b "v1"',
    store,
    {
      block: 300,
    },
  );
  assert.equal(await kept.read(0, 1000), FILE);
  assert.is(await store.get('never kept'), null);
  await store.clear();
});

test('parts are asked for as they are, not compressed', async () => {
  const asked: (string | null)[] = [];
  const plain = server();
  const source = await httpSource(URL, {
    fetch: (url, init) => {
      asked.push(new Headers(init?.headers).get('Accept-Encoding'));
      return plain.fetch(url, init);
    },
  });
  await source.read(10, 5);
  assert.equal(asked, ['identity', 'identity']);
  const packed = httpSource(URL, {
    fetch: async () => new Response('x', { status: 206, headers: { 'Content-Range': 'bytes 0-0/9', 'Content-Encoding': 'gzip' } }),
  });
  await refused(packed, /compresses the file \(gzip\) although it was asked not to/);
});

test('a server that says nothing is given up after three tries, by its address: at the first byte and in the middle', async () => {
  let tries = 0;
  const silent: typeof fetch = () => {
    tries++;
    return new Promise(() => {});
  };
  const begun = performance.now();
  await refused(httpSource(URL, { fetch: silent, silence: 40, delay: 1 }), /sd%20xl.*: the server said nothing for 0 seconds, 3 times/);
  assert.is(tries, 3);
  assert.ok(performance.now() - begun < 5000);

  // One that stops in the middle is taken up where it stopped, and each byte that it gives is a sign of life.
  const starts: number[] = [];
  const halting: typeof fetch = async (_, init) => {
    const [from, to] = /(\d+)-(\d+)/.exec(new Headers(init?.headers).get('Range')!)!.slice(1).map(Number);
    starts.push(from);
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.enqueue(FILE.slice(from, Math.min(to + 1, from + 100)));
        if (to < from + 100) controller.close();
        else return new Promise(() => {});
      },
    });
    return new Response(body, { status: 206, headers: { 'Content-Range': `bytes ${from}-${to}/1000`, ETag: '"v1"' } });
  };
  const source = await httpSource(URL, { fetch: halting, silence: 40, delay: 1 });
  assert.equal(await source.read(0, 450), FILE.slice(0, 450));
  assert.equal(starts, [0, 0, 100, 200, 300, 400]);

  const signal = AbortSignal.timeout(30);
  const asked = performance.now();
  const stopped = await httpSource(URL, { fetch: silent, silence: 60_000, signal }).catch((error) => error);
  assert.is(stopped, signal.reason);
  assert.ok(performance.now() - asked < 20_000, 'a person who stops it need not wait');
});

test('what is no address is told in words, and a percent sign in a name is one', async () => {
  for (const url of ['http://[', 'not an address', 'https://', '']) await refused(httpSource(url), /is no address of the web/);
  assert.is((await httpSource('https://example.org/100%/%zz.safetensors', { fetch: server().fetch })).name, '%zz.safetensors');
});

test.run();
