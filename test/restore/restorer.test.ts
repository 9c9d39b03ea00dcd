/** Runs that are stopped, crash or lose their device go on to the same bits; a picture's recipe makes it again. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { host } from '../../host/node.ts';
import { decode } from '../../image/decode.ts';
import { encodePng } from '../../image/encode.ts';
import type { Image } from '../../image/image.ts';
import { psnr } from '../../image/metrics.ts';
import { readPngText } from '../../image/png-chunks.ts';
import type { Adapter } from '../../models/lora.ts';
import { recommendedByLora } from '../../restore/few-step.ts';
import { compareRecipes, identity, makeRecipe, parseRecipe, RECIPE_KEYWORD, type Recipe } from '../../restore/recipe.ts';
import { type RestoredWithRecipe, Restorer } from '../../restore/restorer.ts';
import type { SamplerStep } from '../../sampler/sampler.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { projectFile } from '../support/fixtures.ts';
import { refusal, refused } from '../support/refused.ts';

const demo = new URL('../../demo', import.meta.url).pathname;
const options = { steps: 4, cfg: 2, seed: 3, minSize: 64 };
let restorer: Restorer;
let photo: Image;
let undisturbed: Uint8Array;
let folder: string;

test.before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'supir-state-'));
  restorer = await Restorer.load(host, demo);
  const whole = await decode(await projectFile('demo/photos/cat-noisy.jpg'), 'cat-noisy.jpg');
  const side = 64;
  const row = (y: number) => whole.data.subarray((80 + y) * whole.width * 3 + 240, (80 + y) * whole.width * 3 + 240 + side * 3);
  photo = { width: side, height: side, data: new Uint8Array(side * side * 3) };
  for (let y = 0; y < side; y++) photo.data.set(row(y), y * side * 3);
  undisturbed = (await restorer.restore(photo, options)).image.data;
});

test.after(async () => {
  await restorer.close();
  assert.is(restorer.device.memory.buffers, 0);
  rmSync(folder, { recursive: true });
});

test('a listener that was not done with a step sees it again', async () => {
  const seen: number[] = [];
  const crash = (at: number) => ({
    state: folder,
    step({ step }: SamplerStep) {
      seen.push(step);
      if (step === at) throw new Error('killed');
    },
  });
  for (const at of [1, 3]) {
    await restorer.restore(photo, options, crash(at)).then(
      () => assert.unreachable(),
      (error) => assert.is(error.message, 'killed'),
    );
  }
  const result = await restorer.restore(photo, options, crash(0));
  assert.equal(seen, [1, 1, 2, 3, 3, 4]);
  assert.equal(result.image.data, undisturbed);
  await result.finished();
});

for (const sampler of ['edm', 'dpmpp2m'] as const) {
  test(`a stopped run (${sampler}) goes on from its last step, to the same bits`, async () => {
    const given = { ...options, sampler };
    const whole = (await restorer.restore(photo, given)).image.data;
    const stop = new AbortController();
    const stopped = restorer.restore(photo, given, {
      state: folder,
      signal: stop.signal,
      step: ({ step }) => void (step === 2 && stop.abort(new Error('stopped'))),
    });
    await stopped.then(
      () => assert.unreachable(),
      (error) => assert.is(error.message, 'stopped'),
    );
    assert.is(readdirSync(folder).length, 1);
    const steps: number[] = [];
    const result = await restorer.restore(photo, given, { state: folder, step: ({ step }) => void steps.push(step) });
    assert.equal(steps, [3, 4]);
    assert.is(result.resumedAt, 2);
    assert.equal(result.image.data, whole);
    await result.finished();
    assert.is(readdirSync(folder).length, 0);
  });
}

test('a run that reuses features goes on from the last step before a whole one, stopped or on another device, to the same bits', async () => {
  const given = { ...options, steps: 6, cache: 0.5 }; // steps 2, 3 and 5 reuse
  const whole = (await restorer.restore(photo, given)).image.data;
  const stop = new AbortController();
  const step = ({ step }: SamplerStep) => void (step === 4 && stop.abort(new Error('stopped')));
  assert.is((await refusal(restorer.restore(photo, given, { state: folder, signal: stop.signal, step }))).message, 'stopped');
  const seen: number[] = [];
  const result = await restorer.restore(photo, given, {
    state: folder,
    step({ step }) {
      if (seen.push(step) === 1) restorer.device.gpu.destroy();
    },
  });
  assert.equal(seen, [4, 4, 5, 6]);
  assert.is(result.resumedAt, 3);
  assert.equal(result.image.data, whole);
  await result.finished();
});

test('a lost device is replaced once, and the run goes on to the same bits', async () => {
  const warnings: string[] = [];
  let lost = false;
  const result = await restorer.restore(photo, options, {
    warning: ({ message }) => void warnings.push(message),
    step({ step }) {
      if (step === 2 && !lost) {
        lost = true;
        restorer.device.gpu.destroy();
      }
    },
  });
  assert.equal(result.image.data, undisturbed);
  assert.is(warnings.length, 1);
  assert.match(warnings[0], /new device, from step 2/);
});

test('a state of another run is left alone, with a warning', async () => {
  writeFileSync(join(folder, '0123456789abcdef.state.safetensors'), 'x');
  const warnings: string[] = [];
  const result = await restorer.restore(
    photo,
    { ...options, steps: 1 },
    { state: folder, warning: ({ message }) => void warnings.push(message) },
  );
  await result.finished();
  await (
    await restorer.restore(
      photo,
      { ...options, steps: 1, seed: 4 },
      { state: folder, warning: ({ message }) => void warnings.push(message) },
    )
  ).finished();
  assert.is(warnings.length, 1, 'told once');
  assert.match(warnings[0], /holds the state of another run: .*To be rid of it, remove .*\*\.state\.safetensors\./);
  assert.equal(readdirSync(folder), ['0123456789abcdef.state.safetensors']);
});

test('a damaged state is refused, and says what to do', async () => {
  const given = { ...options, steps: 2 };
  const path = join(folder, `${await identity(await restorer.recipe(photo, 'cat', given))}.state.safetensors`);
  writeFileSync(path, 'cut off');
  const refused = await restorer.restore(photo, given, { state: folder }).catch((error) => error);
  assert.instance(refused, UserError);
  assert.match(refused.message, /state\.safetensors is damaged\. Remove it/);
  rmSync(path);
});

test('what of a prompt is cut off is told; the negative one counts only with guidance', async () => {
  const told = async (given: object) => {
    const warnings: string[] = [];
    await restorer.restore(
      photo,
      { ...options, steps: 1, positive: '', ...given },
      { warning: ({ message }) => void warnings.push(message) },
    );
    return warnings;
  };
  const long = `${'a '.repeat(75)}lighthouse at dusk`;
  assert.equal(await told({ prompt: long, negative: long, cfg: 1, cfgStart: 1 }), [
    'The prompt is longer than 77 tokens; its end is ignored: "lighthouse at dusk"',
  ]);
  assert.is((await told({ prompt: '', negative: long, cfg: 2 })).length, 1);
  assert.equal(await told({ prompt: long, stage1Only: true }), []);
});

test('a recipe travels in the PNG and makes the same picture', async () => {
  const first = await restorer.restore(photo, options, { name: 'cat' });
  const png = encodePng(first.image, { text: { [RECIPE_KEYWORD]: JSON.stringify(first.recipe) } });
  const recipe = parseRecipe(readPngText(png, 'out.png')[RECIPE_KEYWORD], 'out.png');
  assert.equal(recipe, first.recipe);
  assert.equal(compareRecipes(recipe, await restorer.recipe(photo, 'other name', recipe.options)), []);
  const again = await restorer.restore(photo, recipe.options);
  assert.equal(again.image.data, first.image.data);
});

test('weights in blocks of 8 and 4 bits: nearly the same picture, in less memory, and the recipe tells', async () => {
  const whole = await restorer.restore(photo, options);
  for (const [weights, least] of [
    ['q8', 48],
    ['q4', 35],
  ] as const) {
    const small = await Restorer.load(host, demo, [], { weights });
    const { image, recipe } = await small.restore(photo, options);
    const { peak } = small.device.memory;
    await small.close();
    assert.is(small.device.memory.buffers, 0);
    const likeness = psnr(image, whole.image);
    assert.ok(likeness > least && likeness < 70, `${weights}: ${likeness} dB`);
    assert.ok(peak < restorer.device.memory.peak, `${weights}: ${peak} bytes`);
    assert.is(recipe.model.weights, weights);
    assert.throws(() => compareRecipes(recipe, whole.recipe), new RegExp(`with weights ${weights}; now they are as the files hold them`));
    assert.throws(() => compareRecipes(whole.recipe, recipe), new RegExp(`with weights as the files hold them; now they are ${weights}`));
  }
});

test('a LoRA acts by its strength, is told by the recipe, and at 0 changes no bit', async () => {
  const wave = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i * 12.9898));
  const key = 'lora_unet_output_blocks_5_1_proj_out';
  const path = join(folder, 'wave.safetensors');
  const tensors: Parameters<typeof encodeSafetensors>[0] = [
    [`${key}.lora_down.weight`, { dtype: 'F32', shape: [4, 64], data: wave(256) }],
    [`${key}.lora_up.weight`, { dtype: 'F32', shape: [64, 4], data: wave(256) }],
    [`${key}.alpha`, { dtype: 'F32', shape: [], data: Float32Array.of(4) }],
  ];
  writeFileSync(path, encodeSafetensors(tensors));
  const results: RestoredWithRecipe[] = [];
  const adapted = await Restorer.load(host, demo, [{ path, scale: 0 }]);
  // What it does in the first step alone is less than a level of the picture: latents tell.
  const latents: Float32Array[] = [];
  const end = ({ step, steps, latent }: SamplerStep) => {
    if (step === steps) latents.push(latent);
  };
  results.push(await adapted.restore(photo, options, { step: end }));
  const pipelines = adapted.device.pipelineCount;
  const [handle] = adapted.model.loras;
  handle.scale = 1;
  results.push(await adapted.restore(photo, options, { step: end }));
  await adapted.restore(photo, options, {
    step(done) {
      handle.scale = 0;
      end(done);
    },
  });
  assert.is(adapted.device.pipelineCount, pipelines, 'another scale compiles nothing');
  await adapted.close();
  assert.is(adapted.device.memory.buffers, 0);
  const merged = await Restorer.load(host, demo, [{ path, scale: 1, merge: true }]);
  const { image, recipe } = await merged.restore(photo, options);
  const [fixed] = merged.model.loras;
  assert.throws(() => (fixed.scale = 0.5), /was merged/);
  const distilled = join(folder, 'sdxl_lightning_4step_lora.safetensors');
  writeFileSync(distilled, encodeSafetensors(tensors));
  await merged.model.addLora(await host.fileSource(distilled), 1);
  assert.equal({ ...merged.model.config.recommended, ...recommendedByLora(distilled) }, merged.model.config.recommended);
  assert.ok(merged.model.baseNames.includes('sdxl_lightning_4step_lora.safetensors'));
  await merged.close();
  assert.equal(results[0].image.data, undisturbed);
  const change = Math.max(...results[1].image.data.map((value, i) => Math.abs(value - undisturbed[i])));
  assert.ok(change > 3, `changes by ${change} levels at most`);
  assert.equal(
    results[1].recipe.loras.map(({ name, scale }) => [name, scale]),
    [['wave.safetensors', 1]],
  );
  assert.throws(() => compareRecipes(results[1].recipe, results[0].recipe), /with these LoRA files: wave\.safetensors:1/);
  assert.throws(() => compareRecipes(recipe, results[1].recipe), /wave\.safetensors:1 merged/);
  const apart = (a: Uint8Array | Uint8ClampedArray, b: Uint8Array | Uint8ClampedArray) =>
    Math.max(...a.map((value, i) => Math.abs(value - b[i])));
  assert.ok(apart(image.data, results[1].image.data) <= 4, `merged differs by ${apart(image.data, results[1].image.data)} levels`);
  const [off, on, halfway] = latents;
  for (const other of [off, on])
    assert.ok(
      halfway.some((value, i) => value !== other[i]),
      'changed during the run',
    );
});

test("PEFT's configuration is read beside its file, and what a LoRA file is passed over in is told", async () => {
  const layer = 'base_model.model.up_blocks.1.attentions.2.proj_out';
  const data = Float32Array.from({ length: 256 }, (_, i) => Math.cos(i));
  const path = join(folder, 'adapter_model.safetensors');
  writeFileSync(
    path,
    encodeSafetensors([
      [`${layer}.lora_A.weight`, { dtype: 'F32', shape: [4, 64], data }],
      [`${layer}.lora_B.weight`, { dtype: 'F32', shape: [64, 4], data }],
      ['bundle_emb.word.clip_l', { dtype: 'F32', shape: [2, 32], data: data.subarray(0, 64) }],
    ]),
  );
  const at = async () => {
    const adapted = await Restorer.load(host, demo, [{ path, scale: 1 }]);
    const warnings: string[] = [];
    await adapted.restore(photo, { ...options, stage1Only: true }, { warning: ({ message }) => void warnings.push(message) });
    const { adapters } = [...adapted.model.loras][0] as unknown as { adapters: Adapter[] };
    const up = (await adapters[0].factors[1].source!.read()) as Float32Array;
    await adapted.close();
    return { up: up[1], warnings };
  };
  const alone = await at();
  assert.match(alone.warnings.join('\n'), /embeddings of words.*\n.*does not say its alpha/s);
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify({ peft_type: 'LORA', r: 4, lora_alpha: 8 }));
  const beside = await at();
  assert.is(beside.up, 2 * alone.up);
  assert.is(beside.warnings.length, 1);
  writeFileSync(join(folder, 'adapter_config.json'), '{"lora_alpha":"8"}');
  await refused(Restorer.load(host, demo, [{ path, scale: 1 }]), /adapter_config\.json: 'lora_alpha' is 8, and must be a number/);
});

test('a recipe of another photo, model or adapter is told', async () => {
  const { recipe } = await restorer.restore(photo, { ...options, stage1Only: true });
  const other = { ...photo, data: photo.data.map((value) => 255 - value) };
  const model = { name: 'm', fingerprint: 'f'.repeat(64) };
  const changed: Partial<Recipe>[] = [{ photo: (await makeRecipe(other, 'x', recipe.options, model, [], 'a')).photo }, { model }];
  for (const change of changed) assert.throws(() => compareRecipes(recipe, { ...recipe, ...change }), /Give that/);
  assert.match(compareRecipes(recipe, { ...recipe, adapter: 'another' })[0].message, /another adapter/);
  const earlier = { ...recipe, model: { ...recipe.model, fingerprint: 'f'.repeat(64) } };
  assert.match(compareRecipes(earlier, recipe)[0].message, /of an earlier version, whose fingerprints .* cannot be compared/);
  assert.throws(() => parseRecipe(undefined, 'a.png'), /carries no recipe/);
  assert.throws(() => parseRecipe('{', 'a.png'), /damaged/);
});

test.run();
