/** The page in headless Firefox, on its own WebGPU and shader compiler: a dropped photo is restored as by the library. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import puppeteer, { type Page } from 'puppeteer-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { serveFiles } from '../../scripts/static-server.ts';
import { buildSite } from '../../scripts/web-site.ts';
import { projectFile } from '../support/fixtures.ts';
import { skip } from '../support/skip.ts';
import { besideLibrary } from './library-result.ts';
import { dropOnPage, sendable } from './page-driver.ts';

const installed = (process.env.PATH ?? '')
  .split(delimiter)
  .flatMap((folder) => ['firefox', 'firefox-esr'].map((name) => join(folder, name)));
const firefox = process.env.FIREFOX ?? installed.find((path) => existsSync(path));

/** What the page, loaded again, offers to download after 2 steps on `photo`, and the errors that it reported. */
async function restoreIn(page: Page, photo: Image): Promise<{ png: Uint8Array; errors: string[] }> {
  const errors: string[] = [];
  page.setDefaultTimeout(5 * 60_000); // software drivers compile for long on a busy machine
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.evaluateOnNewDocument(() => {
    localStorage.setItem('schedule', 'tiled');
    // Downloads are taken where they begin: Firefox does not say when a file is whole.
    const blobs: Blob[] = [];
    const address = URL.createObjectURL.bind(URL);
    URL.createObjectURL = (blob: Blob) => address(blobs[blobs.push(blob) - 1]);
    HTMLAnchorElement.prototype.click = () => Object.assign(globalThis, { downloaded: blobs.at(-1) });
  });
  await page.reload();
  await page.waitForSelector('::-p-text(M parameters)');
  await page.evaluate(dropOnPage, sendable([{ name: 'old.png', type: 'image/png', bytes: encodePng(photo) }]));
  await page.waitForSelector('::-p-text(64 x 64)');
  await page.locator('#set-steps').fill('2');
  await page.keyboard.press('Tab');
  await page.locator('.stage button ::-p-text(Restore)').click();
  await page.locator('.stage button ::-p-text(Download)').click();
  await page.waitForFunction(() => 'downloaded' in globalThis);
  const base64 = await page.evaluate(async () => {
    const { downloaded } = globalThis as unknown as { downloaded: Blob };
    return btoa(String.fromCharCode(...new Uint8Array(await downloaded.arrayBuffer())));
  });
  return { png: Buffer.from(base64, 'base64'), errors };
}

test('a dropped photo is restored in Firefox as by the library', async () => {
  if (firefox === undefined) return skip('no Firefox is installed; name one with FIREFOX.');
  const photo = crop(await decode(await projectFile('demo/photos/astronaut-noisy.jpg'), 'astronaut'), 88, 24, 64, 64);
  const site = await buildSite();
  const server = await serveFiles(async (path) => site.get(path));
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: firefox,
    extraPrefsFirefox: { 'dom.webgpu.enabled': true, 'gfx.webgpu.ignore-blocklist': true },
  });
  try {
    const page = await browser.newPage(); // unlike the first one, it has the focus
    await page.goto(server.url);
    if (!(await page.evaluate(() => 'gpu' in navigator))) return skip(`${await browser.version()} has no WebGPU.`);
    const { png, errors } = await restoreIn(page, photo);
    assert.equal(errors, []);
    const { options, apart } = await besideLibrary(png, photo);
    assert.is(options.steps, 2);
    // Another shader compiler here than in Node: sums round in another order.
    assert.ok(apart <= 2, `${apart} levels apart`);
  } finally {
    await browser.close();
    server.close();
  }
});

test.run();
