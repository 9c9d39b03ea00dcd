/** The page in Chromium, used as a person would: photos dropped, restored, compared, looked into; weights opened; and what it must never do. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { suite, test } from 'uvu';
import * as assert from 'uvu/assert';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { readPngText } from '../../image/png-chunks.ts';
import { RECIPE_KEYWORD } from '../../restore/recipe.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { hasChromium } from '../support/chromium.ts';
import { projectFile } from '../support/fixtures.ts';
import { skip } from '../support/skip.ts';
import { tinyModelFiles } from '../support/tiny-model.ts';
import { besideLibrary, furthest } from './library-result.ts';
import { PageDriver } from './page-driver.ts';

const STEPS = 3;
const [WEIGHTS, PHOTO] = ['application/octet-stream', 'image/png'];
let driver: PageDriver;
let photo: Image;

test.before(async () => {
  photo = crop(await decode(await projectFile('demo/photos/astronaut-noisy.jpg'), 'astronaut'), 88, 24, 64, 64);
  driver = await PageDriver.open();
});
test.after(() => driver.close());

const restored = () => driver.page.waitForSelector('.stage button:has-text("Download")');
/** Pixels of the newest result. */
const result = async (): Promise<Uint8Array> => (await decode(await driver.download('.stage button:has-text("Download")'), 'result')).data;

test('the first visit loads little, finds the adapter and opens the demo model', async () => {
  await driver.page.waitForSelector('text=/demo, 6\\.\\d+ M parameters/');
  const bytes = driver.loadedBytes();
  // Page and engine know all methods from the start, for their options and to tell files: those beside SUPIR take some tens of thousands.
  assert.ok(bytes < 360_000 && bytes > 20_000, `${bytes} bytes, compressed, without weights`);
});

test('a schedule that the adapter cannot run is explained, and another one can be chosen', async () => {
  await driver.show('adapter');
  await driver.page.waitForSelector('section[aria-label="Facts"] .help:has-text("cannot run the matrix schedule")');
  assert.ok(await driver.page.isDisabled('label:has-text("matrix (experimental)") input'));
  await driver.page.evaluate(() => {
    localStorage.setItem('schedule', 'matrix'); // chosen on another adapter
    sessionStorage.setItem('chosen', '');
  });
  await driver.page.reload();
  await driver.page.waitForSelector('.problem-card:has-text("cannot run the matrix schedule")');
  await driver.page.click('.problem-card label:has-text("tiled")');
  await driver.page.waitForSelector('section[aria-label="Facts"]');
  await driver.show('restore');
  await driver.page.waitForSelector('text=/demo, 6\\.\\d+ M parameters/');
});

test('the GPU is checked kernel by kernel until somebody stops that, and the report can be read', async () => {
  await driver.show('adapter');
  await driver.page.click('section[aria-label="Check"] button:has-text("Check")');
  await driver.page.waitForSelector('label[for=check]:has-text(": matmul")');
  await driver.page.click('section[aria-label="Check"] button:has-text("Stop")');
  await driver.page.waitForSelector('section[aria-label="Check"] .badge:has-text("unfinished")');
  await driver.page.click('section[aria-label="Check"] summary');
  assert.match(
    (await driver.page.textContent('section[aria-label="Check"] pre'))!,
    /schedules {4}tiled \(chosen\)\nkernels {6}\d+ checks, 0 wrong/,
  );
  await driver.show('restore');
});

test('what was typed and cannot be stops the run until it is mended, and a file that is no photo is refused by name', async () => {
  await driver.page.waitForSelector('.forecast:has-text("once there is one")');
  await driver.drop([
    { name: 'notes.png', type: PHOTO, bytes: new TextEncoder().encode('no picture') },
    { name: 'torn.png', type: PHOTO, bytes: encodePng(photo).slice(0, 200) },
  ]);
  await driver.page.waitForSelector('.notice:has-text("notes.png")');
  await driver.page.waitForSelector('.notice:has-text("torn.png")');
  assert.is(await driver.page.locator('.thumb').count(), 0);
  await driver.set('steps', '-3');
  await driver.page.waitForSelector('.forecast .problem:has-text("steps")');
  assert.is(await driver.page.inputValue('#set-steps'), '-3');
  await driver.set('steps', '10');
  await driver.page.waitForSelector('.forecast .problem', { state: 'detached' });
  assert.is(await driver.page.inputValue('#set-steps'), '10');
});

for (const scheme of ['light', 'dark'] as const) {
  test(`no view has a fault that an automated accessibility check finds, ${scheme}`, async () => {
    await driver.page.emulateMedia({ colorScheme: scheme });
    for (const view of ['restore', 'compare', 'explore', 'adapter'] as const) {
      await driver.show(view);
      await driver.page.waitForTimeout(300);
      for (const details of await driver.page.$$('details:not([open]) > summary')) await details.click();
      assert.equal(await driver.violations(), [], view);
    }
    await driver.show('restore');
  });
}

test('a dropped photo is restored as by the library, without keeping the main thread for long', async () => {
  await driver.drop([{ name: 'old.png', type: PHOTO, bytes: encodePng(photo) }]);
  await driver.page.waitForSelector('text=64 x 64');
  await driver.set('steps', String(STEPS));
  const longest = await driver.longestTask(async () => {
    await driver.page.click('.stage button:has-text("Restore")');
    await driver.page.waitForSelector('.stage .tag:has-text("Stage 1")');
    await restored();
  });
  assert.ok(longest < 50, `a task of ${longest.toFixed(1)} ms of processor time`);

  const png = await driver.download('.stage button:has-text("Download")');
  const { options, apart } = await besideLibrary(png, photo);
  assert.is(options.steps, STEPS);
  // Another adapter here than in the browser: sums round in another order.
  assert.ok(apart <= 2, `${apart} levels apart`);
});

test('the line between before and after moves by keyboard', async () => {
  const before = await driver.page.getAttribute('.divider', 'aria-valuetext');
  await driver.page.focus('.divider');
  for (let i = 0; i < 5; i++) await driver.page.keyboard.press('ArrowRight');
  assert.is(before, '50 percent Photo, 50 percent Restored');
  assert.is(await driver.page.getAttribute('.divider', 'aria-valuetext'), '55 percent Photo, 45 percent Restored');
});

test('a cancelled run stops at once and goes on from its last step, to the same pixels', async () => {
  const undisturbed = await result();
  await driver.page.click('.stage button:has-text("Again")');
  await driver.page.waitForSelector('.stage .tag:has-text("step 1")');
  await driver.page.click('.stage button:has-text("Cancel")');
  await driver.page.waitForSelector('text=stopped: it goes on from its last step', { timeout: 2000 });
  await driver.page.click('.stage button:has-text("Go on")');
  await driver.page.waitForSelector('.stage .dim:has-text("from step")');
  assert.equal(await result(), undisturbed);
});

test('a step that takes deep features over gives what it gives by the library', async () => {
  const whole = await result();
  for (const share of ['0.5', '0']) {
    await driver.set('cache', share);
    await driver.page.click('.stage button:has-text("Again")');
    await driver.page.waitForSelector('.stage button:has-text("Cancel")');
    await restored();
    const png = await driver.download('.stage button:has-text("Download")');
    if (share === '0') assert.equal((await decode(png, 'whole')).data, whole);
    else {
      const { options, apart } = await besideLibrary(png, photo);
      assert.is(options.cache, Number(share));
      assert.ok(apart <= 2, `${apart} levels apart`);
      assert.ok(furthest((await decode(png, 'cached')).data, whole) > 0);
    }
  }
});

test('what is marked on a photo is restored alone, and the rest stays to the bit', async () => {
  await driver.page.click('.stage button:has-text("Mark")');
  await driver.page.click('.marking label:has-text("Rectangle")');
  const { x, y, width, height } = (await driver.page.locator('.marked svg').boundingBox())!;
  await driver.page.mouse.move(x + width / 2, y + height / 2);
  await driver.page.mouse.down();
  await driver.page.mouse.move(x + width * 0.75, y + height * 0.75);
  await driver.page.mouse.up();
  await driver.page.waitForSelector('.marked rect.region');
  assert.equal(await driver.violations(), []);
  await driver.page.click('.stage button:has-text("Restore")');
  await restored();
  const marked = await result();
  const at = (column: number, row: number) => marked.subarray((row * 64 + column) * 3, (row * 64 + column) * 3 + 3);
  const isPhoto = (column: number, row: number) => at(column, row).every((value, c) => value === photo.data[(row * 64 + column) * 3 + c]);
  for (let i = 0; i < 64; i++) assert.ok(isPhoto(i, 5) && isPhoto(5, i) && isPhoto(i, 60), String(i));
  assert.not.ok(isPhoto(40, 40) && isPhoto(41, 40));
  await driver.page.click('.stage button:has-text("Mark")');
  await driver.page.click('.marking button:has-text("Clear")');
  await driver.page.click('.stage button:has-text("Restore")');
  await restored();
});

test('faces are found and can be switched', async () => {
  await driver.drop([{ name: 'person.png', type: PHOTO, bytes: await projectFile('demo/photos/astronaut.png') }]);
  await driver.page.click('.marking button:has-text("Find faces")');
  await driver.page.waitForSelector('.marked rect.face');
  assert.match((await driver.page.textContent('.faces legend'))!, /A face was found/);
  await driver.page.uncheck('.faces input');
  await driver.page.waitForSelector('.marked rect.face.off');
  await driver.page.click('button:has-text("Take person.png off the list")');
});

test('a LoRA is loaded, its slider acts on the next run, and at 0 nothing changes', async () => {
  const plain = await result();
  const wave = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i * 12.9898));
  const key = 'lora_unet_output_blocks_5_1_proj_out';
  const file = encodeSafetensors([
    [`${key}.lora_down.weight`, { dtype: 'F32', shape: [4, 64], data: wave(256) }],
    [`${key}.lora_up.weight`, { dtype: 'F32', shape: [64, 4], data: wave(256) }],
  ]);
  const peft = { name: 'adapter_model.safetensors', type: WEIGHTS, bytes: file };
  const config = (json: object) => ({
    name: 'adapter_config.json',
    type: 'application/json',
    bytes: new TextEncoder().encode(JSON.stringify(json)),
  });
  await driver.drop([peft, config({ lora_alpha: 'much' })]);
  await driver.page.waitForSelector('.notice.error:has-text("lora_alpha")');
  await driver.drop([peft, config({ lora_alpha: 8, r: 4 })]);
  await driver.page.waitForSelector('.lora:has-text("adapter_model")');
  await driver.page.click('.lora button');
  await driver.page.waitForSelector('.lora', { state: 'detached' });
  await driver.page.setInputFiles('section[aria-label="LoRA"] input[type=file]', {
    name: 'wave.safetensors',
    mimeType: WEIGHTS,
    buffer: Buffer.from(file),
  });
  await driver.page.waitForSelector('.lora');
  const differences: number[] = [];
  for (const scale of ['1', '0']) {
    await driver.page.fill('.lora input[type=range]', scale);
    await driver.page.waitForTimeout(400); // the slider rests
    await driver.page.click('.stage button:has-text("Again")');
    await driver.page.waitForSelector('.stage button:has-text("Cancel")');
    await restored();
    differences.push(furthest(await result(), plain));
  }
  assert.ok(differences[0] > 2, `${differences[0]} levels`);
  assert.is(differences[1], 0);
  await driver.page.click('.lora button');
  await driver.page.waitForSelector('.lora', { state: 'detached' });
});

test('a recorded run without a module shows other pixels, activations, norms and where attention looks', async () => {
  const plain = await result();
  await driver.show('explore');
  await driver.page.click('button[data-block="model.diffusion_model.project_modules.0"]');
  await driver.page.uncheck('.module input[type=checkbox]');
  await driver.page.click('.explore > .toolbar button.primary');
  await driver.page.waitForSelector('.mosaic');
  await driver.page.waitForSelector('.block-panel .curve');
  await driver.page.fill('#step', '2');
  await driver.page.waitForSelector('canvas[aria-label="Channels of model.diffusion_model.project_modules.0 after step 2"]');
  await driver.page.waitForFunction(() => document.querySelectorAll('button.block canvas').length > 30);
  await driver.page.click('button[data-block="model.diffusion_model.input_blocks.4"]');
  await driver.page.waitForSelector('.attention .map');
  await driver.page.focus('.query');
  await driver.page.keyboard.press('ArrowLeft');
  assert.equal(await driver.violations(), []);
  await driver.show('restore');
  assert.ok(furthest(await result(), plain) > 2);
});

test('results lie side by side and under the map of what changed', async () => {
  await driver.show('compare');
  const boxes = await driver.page.$$('.results input[type=checkbox]');
  await boxes[0].check();
  await driver.page.waitForSelector('.pane >> nth=1');
  await driver.page.click('button[aria-label="Zoom in"]');
  const shown = Number.parseFloat((await driver.page.textContent('fieldset[aria-label="Zoom"] output'))!);
  const { width } = (await driver.page.locator('.pane').first().boundingBox())!;
  assert.ok(Math.abs(shown - (100 * 1.5 * width) / 64) <= 1, `${shown} % of 64 pixels on ${width}`);
  const transforms = await driver.page.$$eval('.pane > .layer:first-child', (layers) =>
    layers.map((layer) => (layer as HTMLElement).style.transform),
  );
  assert.is(new Set(transforms).size, 1);
  assert.match(transforms[0], /scale\(1\.5\)/);
  await driver.page.click('text=What changed');
  await driver.page.waitForSelector('canvas[aria-label="Change to the photo"]');
  await driver.page.click('text=Side by side');
  assert.equal(await driver.violations(), []);
});

test('a picture of ours brings its settings back', async () => {
  await driver.show('restore');
  const png = await driver.download('.stage button:has-text("Download")');
  await driver.set('steps', '7');
  await driver.drop([{ name: 'ours.png', type: PHOTO, bytes: png }]);
  await driver.page.waitForSelector('text=The settings of ours.png are in force again');
  assert.is(await driver.page.inputValue('#set-steps'), String(STEPS));
});

test('weights are explained, and a small model opens from disk', async () => {
  const lora = encodeSafetensors([['lora_unet_x.lora_down.weight', { dtype: 'F32', shape: [1], data: new Float32Array(1) }]]);
  await driver.drop([
    { name: 'style.safetensors', type: WEIGHTS, bytes: lora },
    { name: 'torn.safetensors', type: WEIGHTS, bytes: new Uint8Array([9, 9, 9]) },
  ]);
  await driver.page.waitForSelector('.files li.bad >> text=/This is a LoRA\\. It changes a model and is none by itself/');
  await driver.page.waitForSelector('.files li.bad >> text=/torn\\.safetensors/');
  assert.ok(await driver.page.isDisabled('button:has-text("Use these files")'));
  for (const name of ['style.safetensors', 'torn.safetensors']) await driver.page.click(`button:has-text("Leave ${name} out")`);
  await driver.page.fill('#address', `${driver.url}demo/supir.safetensors`);
  await driver.page.click('.address button');
  await driver.page.waitForSelector('.files >> text=/SUPIR checkpoint/');
  await driver.page.click('button:has-text("Leave supir.safetensors out")');
  const files = [...(await tinyModelFiles())].map(([name, bytes]) => ({ name, type: WEIGHTS, bytes }));
  await driver.drop(files);
  await driver.page.waitForSelector('.files >> text=/SDXL checkpoint/');
  assert.equal(await driver.violations(), []);
  await driver.page.click('button:has-text("Keep in this browser") >> nth=0');
  await driver.page.waitForSelector('text=is kept in this browser');
  await driver.page.click('button:has-text("Use these files")');
  await driver.page.waitForSelector('.model .dim:has-text("tiny,")');
});

test('the page works without a network, and never asked another host', async () => {
  await driver.page.waitForFunction(async () => (await caches.match('demo/supir.safetensors')) !== undefined);
  await driver.page.context().setOffline(true);
  await driver.page.reload();
  await driver.page.waitForSelector('text=/demo, 6\\.\\d+ M parameters/');
  await driver.page.waitForSelector('text=Kept in this browser:', { state: 'attached' });
  const others = driver.requests.filter((url) => !url.startsWith(driver.url) && !url.startsWith('blob:'));
  assert.equal(others, []);
  assert.equal(driver.errors, []);
});

test('captions are off until an address is opened and switched on, and then one small picture is sent there', async () => {
  const asked: string[] = [];
  const server = createServer(async (request, response) => {
    for (const [name, value] of [
      ['origin', new URL(driver.url).origin],
      ['headers', 'content-type'],
    ])
      response.setHeader(`access-control-allow-${name}`, value);
    let text = '';
    for await (const part of request) text += part;
    if (request.method === 'POST') asked.push(text);
    response.end(JSON.stringify({ choices: [{ message: { content: 'a woman in orange' } }] }));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  try {
    await driver.page.context().setOffline(false);
    const reach = (url: string) =>
      driver.page.evaluate(
        (url) =>
          fetch(url).then(
            () => 'open',
            () => 'closed',
          ),
        url,
      );
    assert.is(await reach(address), 'closed');
    await driver.page.click('summary:has-text("Captions")');
    await driver.page.fill('#caption-url', address);
    await driver.page.fill('#caption-model', 'eyes');
    await driver.page.click('button:has-text("Allow http://127.0.0.1")');
    await driver.page.waitForSelector('text=/demo, 6\\.\\d+ M parameters/');
    assert.equal([await reach(address), await reach('http://127.0.0.1:9/')], ['open', 'closed']);
    await driver.page.click('summary:has-text("Captions")');
    await driver.page.check('label:has-text("Send photos without a prompt")');
    await driver.drop([{ name: 'old.png', type: PHOTO, bytes: encodePng(photo) }]);
    await driver.set('steps', '1');
    await driver.page.click('.stage button:has-text("Restore")');
    await restored();
    assert.is(asked.length, 1);
    const png = await driver.download('.stage button:has-text("Download")');
    assert.is(JSON.parse(readPngText(png, 'result')[RECIPE_KEYWORD]!).options.prompt, 'a woman in orange. ');
  } finally {
    server.close();
  }
});

if (hasChromium) test.run();
else {
  const elsewhere = suite('page');
  elsewhere('in Chromium', () => skip('the packed Chromium is for x64 Linux; name another one with CHROMIUM.'));
  elsewhere.run();
}
