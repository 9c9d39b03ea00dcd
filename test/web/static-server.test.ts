/** The page's server on this machine: it answers whatever is asked, and goes on. */
import { connect } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type StaticServer, serveFiles } from '../../scripts/static-server.ts';

const bytes = new TextEncoder().encode('0123456789');
let server: StaticServer;

test.before(async () => {
  server = await serveFiles(
    async (path) => {
      if (path === 'broken') throw new Error('it does not build');
      return path === 'index.html' || path === 'a b.txt' ? bytes : undefined;
    },
    { headers: { 'x-frame-options': 'DENY' } },
  );
});
test.after(() => server.close());

/** What a request of these bytes is answered, the first line's number. */
function raw(request: string): Promise<number> {
  return new Promise((done, fail) => {
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1', () => socket.end(request));
    let text = '';
    socket.on('data', (chunk) => (text += chunk));
    socket.on('close', () => done(Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0)));
    socket.on('error', fail);
  });
}

test('malformed addresses are answered with 400, and the server lives', async () => {
  const cases: [target: string, status: number][] = [
    ['/%', 400],
    ['//', 400],
    ['/%zz', 400],
    ['/%c3%28', 400],
    ['/a%00b', 400],
    ['http://[', 400],
    ['*', 400],
    ['//example.com/', 400],
    ['/?%', 200],
    ['/index.html#%', 200],
    ['/..', 404],
    ['/%2e%2e/package.json', 404],
    ['/a%20b.txt', 200],
    ['/broken', 500],
  ];
  for (const [target, status] of cases)
    assert.is(await raw(`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`), status, target);
  assert.is(await raw('nonsense\r\n\r\n'), 400);
  assert.is((await fetch(server.url)).status, 200);
});

test('GET and HEAD alone are served, with the headers given', async () => {
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
    const response = await fetch(server.url, { method });
    assert.is(response.status, 405, method);
    assert.is(response.headers.get('allow'), 'GET, HEAD');
  }
  assert.is(await raw('TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'), 405);
  const head = await fetch(server.url, { method: 'HEAD' });
  assert.equal([head.status, head.headers.get('content-length'), await head.text()], [200, '10', '']);
  assert.is(head.headers.get('x-frame-options'), 'DENY');
  assert.is(head.headers.get('x-content-type-options'), 'nosniff');
});

test('ranges, from the end too', async () => {
  const cases: [range: string, status: number, body: string, content: string | null][] = [
    ['bytes=2-4', 206, '234', 'bytes 2-4/10'],
    ['bytes=7-', 206, '789', 'bytes 7-9/10'],
    ['bytes=-3', 206, '789', 'bytes 7-9/10'],
    ['bytes=-30', 206, '0123456789', 'bytes 0-9/10'],
    ['bytes=8-99', 206, '89', 'bytes 8-9/10'],
    ['bytes=0-0', 206, '0', 'bytes 0-0/10'],
    ['bytes=10-', 416, '', 'bytes */10'],
    ['bytes=-0', 416, '', 'bytes */10'],
    ['bytes=5-2', 200, '0123456789', null],
    ['bytes=-', 200, '0123456789', null],
    ['bytes=1-2,4-5', 200, '0123456789', null],
    ['lines=1-2', 200, '0123456789', null],
  ];
  for (const [range, status, body, content] of cases) {
    const response = await fetch(server.url, { headers: { range } });
    assert.is(response.status, status, range);
    const given = await response.text();
    if (status !== 416) assert.is(given, body, range);
    assert.is(response.headers.get('content-range'), content, range);
  }
});

test.run();
