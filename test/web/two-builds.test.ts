/** Two builds of the page on one origin, and what its policy lets the worker do. */
import { suite, test } from 'uvu';
import * as assert from 'uvu/assert';
import { serveFiles } from '../../scripts/static-server.ts';
import { buildSite, PAGE_HEADERS } from '../../scripts/web-site.ts';
import { hasChromium, launchChromium } from '../support/chromium.ts';
import { skip } from '../support/skip.ts';

test('each keeps its own files; what a build before it kept goes; and both open without a network', async () => {
  const site = await buildSite();
  // Without headers, as a plain server of files gives it.
  const server = await serveFiles(async (path) => site.get(path.replace(/^[ab]\//, '')));
  const browser = await launchChromium();
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    const before = (folder: string) => `supir ${server.url}${folder}/ 0123`;
    for (const folder of ['a', 'b']) {
      await page.goto(`${server.url}${folder}/`);
      await page.evaluate((name) => caches.open(name), before(folder));
      await page.waitForFunction(async () => (await navigator.serviceWorker.ready).active?.state === 'activated');
    }
    await page.waitForFunction(async () => (await caches.keys()).length === 2);
    const names = await page.evaluate(() => caches.keys());
    for (const folder of ['a', 'b'])
      assert.is(
        names.filter((name) => name.startsWith(`supir ${server.url}${folder}/ `) && name !== before(folder)).length,
        1,
        names.join(),
      );
    await context.setOffline(true);
    for (const folder of ['a', 'b']) {
      await page.goto(`${server.url}${folder}/`);
      await page.waitForSelector('nav a[href="#restore"]');
    }

    const [worker] = page.workers();
    const imported = await worker.evaluate(() =>
      import('data:text/javascript,export default 1' as string).then(
        () => 'ran',
        () => 'refused',
      ),
    );
    assert.is(imported, 'refused', 'scripts from elsewhere');
  } finally {
    await browser.close();
    server.close();
  }
});

test('headers refuse framing, and stand in a file for servers that read it', async () => {
  assert.match(PAGE_HEADERS['content-security-policy'], /; frame-ancestors 'none'$/);
  const site = await buildSite();
  const lines = new TextDecoder().decode(site.get('_headers')).split('\n');
  assert.is(lines[0], '/*');
  for (const [name, value] of Object.entries(PAGE_HEADERS)) assert.ok(lines.includes(`  ${name}: ${value}`), name);
  const html = new TextDecoder().decode(site.get('index.html'));
  assert.ok(html.includes(`content="${PAGE_HEADERS['content-security-policy'].replace("; frame-ancestors 'none'", '')}"`));
});

if (hasChromium) test.run();
else {
  const elsewhere = suite('two builds');
  elsewhere('in Chromium', () => skip('the packed Chromium is for x64 Linux; name another one with CHROMIUM.'));
  elsewhere.run();
}
