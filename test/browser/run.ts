/**
 * Runs the portable tests in headless Chromium: `npx tsx test/browser/run.ts [pattern]`. Ends like test/run.ts.
 * The browser is the one packed in `@sparticuz/chromium` (x64 Linux, no root needed), or the executable that CHROMIUM names; its WebGPU
 * computes with SwiftShader, so that the result does not depend on the machine.
 */
import { stripVTControlCharacters } from 'node:util';
import { launchChromium } from '../support/chromium.ts';
import { portableTests } from '../support/portable.ts';
import type { Counts } from '../support/runner.ts';
import { serveTests } from './server.ts';

const LIMIT_MS = 20 * 60_000;

const server = await serveTests(await portableTests(process.argv[2]));
const browser = await launchChromium();
console.log(`Chromium ${browser.version()}`);
const page = await browser.newPage();
page.setDefaultTimeout(LIMIT_MS);
page.on('console', (message) => {
  // uvu prints a dot per test without a line feed, and every message here is a line.
  const text = stripVTControlCharacters(message.text());
  process.stdout.write(/^[•✘] $|\n$/.test(text) ? text : `${text}\n`);
});
const broken = new Promise<never>((_, fail) => {
  page.on('pageerror', fail);
  page.on('crash', () => fail(new Error('The page crashed.')));
});
try {
  await page.goto(server.url);
  const done = page.waitForFunction(() => (globalThis as { counts?: Counts }).counts);
  const counts = await (await Promise.race([done, broken])).jsonValue();
  process.exitCode = !counts || counts.failed > 0 || counts.passed === 0 ? 1 : 0;
} catch (error) {
  console.error(`The browser run failed: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  server.close();
}
