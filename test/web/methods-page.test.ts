/** The page in Chromium with a model of another method than the demo's. */
import { suite, test } from 'uvu';
import * as assert from 'uvu/assert';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { hasChromium } from '../support/chromium.ts';
import { projectFile } from '../support/fixtures.ts';
import { skip } from '../support/skip.ts';
import { TINY_RRDB, tinyDiffBirFiles } from '../support/tiny-diffbir.ts';
import { besideLibrary } from './library-result.ts';
import { PageDriver } from './page-driver.ts';

const [WEIGHTS, PHOTO] = ['application/octet-stream', 'image/png'];
let driver: PageDriver;
let photo: Image;

test.before(async () => {
  photo = crop(await decode(await projectFile('demo/photos/astronaut-noisy.jpg'), 'astronaut'), 88, 24, 64, 64);
  driver = await PageDriver.open();
  driver.page.setDefaultTimeout(3 * 60_000);
  await driver.page.waitForSelector('text=/demo, 6\\.\\d+ M parameters/');
});
test.after(() => driver.close());

test('a small DiffBIR opens with the options and presets of its method, restores as the library does, and can be looked into', async () => {
  await driver.show('restore');
  const files = await tinyDiffBirFiles(TINY_RRDB);
  await driver.drop([...files].map(([name, bytes]) => ({ name, type: WEIGHTS, bytes })));
  await driver.page.waitForSelector('.files >> text=/IRControlNet/');
  await driver.page.click('button:has-text("Use these files")');
  await driver.page.waitForSelector('.model .dim:has-text("tiny DiffBIR, DiffBIR")');
  assert.is(await driver.page.locator('#set-restoreCfg').count(), 0, "an option of SUPIR's");
  await driver.page.click('.presets label:has-text("v2-denoise")');
  assert.is(await driver.page.inputValue('#set-sampler'), 'spaced');
  const small = crop(photo, 8, 8, 24, 16);
  await driver.drop([{ name: 'small.png', type: PHOTO, bytes: encodePng(small) }]);
  for (const details of await driver.page.$$('.side details:not([open]) > summary')) await details.click();
  for (const [name, value] of [
    ['steps', '2'],
    ['cfg', '1'],
    ['minSize', '64'],
  ])
    await driver.set(name, value);
  await driver.show('explore');
  await driver.page.click('.explore > .toolbar button.primary:has-text("small.png")');
  await driver.page.waitForFunction(() => document.querySelectorAll('button.block canvas').length > 30);
  await driver.page.click('button[data-block="base.model.diffusion_model.input_blocks.1"]');
  await driver.page.waitForSelector('.attention .map');
  assert.is(await driver.page.textContent('button[data-block="control.zero_convs.3.0"] .name'), 'zero.3.0');
  await driver.show('restore');
  const { options, apart } = await besideLibrary(await driver.download('.stage button:has-text("Download")'), small, files);
  assert.equal([options.steps, options.cfg, options.upscale], [2, 1, 1]);
  assert.ok(apart <= 2, `${apart} levels apart`);
});

test('what was recorded of one model is not shown for another, for which nothing was', async () => {
  await driver.show('explore');
  await driver.page.waitForSelector('.explore > .toolbar button:has-text("Record again: small.png")');
  await driver.page.waitForFunction(() => document.querySelectorAll('button.block canvas').length > 30);
  await driver.show('restore');
  await driver.page.click('button:has-text("Use these files")');
  await driver.show('explore');
  await driver.page.waitForSelector('.explore > .toolbar button:has-text("Restore and record: small.png")');
  await driver.page.waitForSelector('.step-slider label:has-text("Step 1 of 2")');
  await driver.page.waitForFunction(() => document.querySelectorAll('button.block canvas').length === 0);
  await driver.show('restore');
});

test('a cleaner alone enlarges, with no steps and no seed to choose', async () => {
  for (const name of ['base.safetensors', 'control.safetensors', 'config.json', 'tokenizer.json'])
    await driver.page.click(`button:has-text("Leave ${name} out")`);
  await driver.page.click('button:has-text("Use these files")');
  await driver.page.waitForSelector('.model .dim:has-text("RRDBNet")');
  assert.equal([await driver.page.locator('#set-steps').count(), await driver.page.locator('#set-seed').count()], [0, 0]);
  await driver.page.click('.stage button:has-text("Again")');
  await driver.page.waitForSelector('.stage .dim:has-text("96 x 64")');
});

if (hasChromium) test.run();
else {
  const elsewhere = suite('page with other methods');
  elsewhere('in Chromium', () => skip('the packed Chromium is for x64 Linux; name another one with CHROMIUM.'));
  elsewhere.run();
}
