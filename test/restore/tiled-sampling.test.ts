/** Restoring with the demo model in latent tiles: no seams, memory of a tile, one prompt a tile; and the samplers and noises to choose from. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { planText } from '../../core/debug.ts';
import { UserError } from '../../core/errors.ts';
import { TorchRandom } from '../../core/random.ts';
import { watch } from '../../core/scope.ts';
import { input, sizeOf, type Tensor } from '../../core/tensor.ts';
import { evaluate } from '../../gpu/program.ts';
import { fromUnit } from '../../image/image.ts';
import { measureSeams } from '../../image/seams.ts';
import { add } from '../../kernels/binary.ts';
import { concat } from '../../kernels/copy.ts';
import { plan } from '../../kernels/fusion.ts';
import { timestepEmbedding } from '../../models/timestep-embedding.ts';
import type { ZeroSFT } from '../../models/zero-sft.ts';
import { chooseOptions, type GivenOptions } from '../../restore/choose-options.ts';
import { images, textInputs, type Values } from '../../restore/networks.ts';
import type { RestoreEvents } from '../../restore/stage.ts';
import { restoreImages, SUPIR } from '../../restore/supir.ts';
import { SupirModel } from '../../restore/supir-model.ts';
import { samplingWindows, tiledDenoiser } from '../../restore/tiled-denoiser.ts';
import { cropWindow, tiledNetwork } from '../../sampler/tiles.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { testDevice } from '../support/device.ts';
import { projectFile } from '../support/fixtures.ts';
import { refused } from '../support/refused.ts';

const device = await testDevice();
const model = await SupirModel.open(device, async (name) => bytesSource(name, await projectFile(`demo/${name}`)));
const FACTOR = 4;

test.after(() => model.close());

/** A smooth picture with some texture: (1, h, w, 3) in [-1, 1]. */
function picture(h: number, w: number): Values {
  const data = new Float32Array(h * w * 3);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      for (let k = 0; k < 3; k++)
        data[(y * w + x) * 3 + k] = 0.5 * Math.sin(y / 17 + k) * Math.cos(x / 23) + 0.2 * Math.sin((x + y) / 2.3) * Math.sin(x / 31);
    }
  }
  return { data, shape: [1, h, w, 3] };
}

/** Whatever the model recommends. */
const OPTIONS: GivenOptions = { cfg: 2, cfgStart: 1, sChurn: 5, sNoise: 1.003, restoreCfg: 1, colorFix: 'none' };

async function restore(image: Values, given: GivenOptions, prompts = [''], events: RestoreEvents = {}) {
  const texts = { positive: prompts.map((prompt) => model.tokens(prompt)), negative: model.tokens('blurry') };
  return restoreImages(model, { image, ...texts }, chooseOptions({ ...OPTIONS, ...given }, model.config), events);
}

test('no seams: across the tiles’ borders the picture changes no more than elsewhere', async () => {
  const image = picture(192, 64);
  const seams = async (given: GivenOptions, borders: number[]) => {
    const { image: result } = await restore(image, { steps: 4, tile: 16, ...given });
    const [whole] = images(result);
    return measureSeams(
      fromUnit(whole, 'round'),
      [],
      borders.map((row) => row * FACTOR),
      FACTOR,
    );
  };
  const blended = await seams({ tileStride: 8 }, [8, 16, 24, 32, 40]);
  const hard = await seams({ tileStride: 16, controlScale: 0, restoreCfg: -1 }, [16, 32]); // where the photo steers, this model's tiles agree
  const told = [blended.border, blended.elsewhere, hard.border, hard.elsewhere].map((ratio) => ratio.toFixed(3));
  console.log(
    `  gradient energy along borders and elsewhere: ${told[0]} and ${told[1]} blended, ${told[2]} and ${told[3]} without overlap`,
  );
  assert.ok(blended.border < 1.15 * blended.elsewhere && blended.border < blended.elsewhere99);
  assert.ok(hard.border > 1.25 * hard.elsewhere, 'tiles without overlap are told');
});

/** Normal noise of a latent's size. */
const noise = (seed: number, shape: readonly number[]) => new TorchRandom(seed).randn(sizeOf(shape));

test('a step that reuses is, by hand, the blocks of the latent’s own size with the deep features of the step before, for both branches of guidance', async () => {
  const shape = [1, 8, 12, 16];
  const [hint, x1, x2] = [1, 2, 3].map((seed) => noise(seed, shape));
  const [positive, negative] = [await model.condition(model.tokens('a cat')), await model.condition(model.tokens('blurry'))];
  const before = device.memory.bytes;
  const denoiser = await model.denoiser({ data: hint, shape }, negative, positive, { cachedWindows: 1 });
  const uncached = await model.denoiser({ data: hint, shape }, negative, positive);
  const [first, second] = [
    { x: x1, timestep: 600, controlScale: 0.9 },
    { x: x2, timestep: 580, controlScale: 0.8 },
  ];
  await refused(denoiser.network({ ...first, reuse: true }), /no deep features yet/);
  const whole = await denoiser.network(first);
  assert.equal(whole, await uncached.network(first));
  const reused = await denoiser.network({ ...second, reuse: true });
  assert.equal(await denoiser.network(second), await uncached.network(second));

  const { diffusion_model: unet, control_model: control } = model.networks.model;
  const texts = textInputs(1, negative, positive);
  const graph = () => {
    const twice = (name: string) => concat(new Array<Tensor>(2).fill(input(name, shape)), 0);
    const [x, hinted, timestep] = [twice('x'), twice('hint'), input('timestep', [1, 32])];
    const [context, vector] = [input('context', [2, 77, 64]), input('vector', [2, 128])];
    return { x, hinted, timestep, context, vector };
  };
  // The features of the first step, as the networks make them whole.
  const { x, hinted, timestep, context, vector } = graph();
  const features = control.forward(x, hinted, timestep, context, vector);
  const build = () => unet.forward(x, timestep, context, vector, { features, scale: 0.9 });
  const deep = watch(build).results.get(unet.output_blocks[5]) as Tensor;
  const made = await evaluate(device, deep, { hint, ...texts, x: x1, timestep: timestepEmbedding([600], 32) });
  // The shallow part of the second: three blocks of either half, and of the control network.
  const own = graph();
  const [conditioning, steering] = [unet, control].map((each) => ({ emb: each.embed(own.timestep, own.vector), context: own.context }));
  const skips: Tensor[] = [];
  const fresh: Tensor[] = [];
  for (const i of [0, 1, 2]) {
    skips.push(unet.input_blocks[i].forward(skips[i - 1] ?? own.x, conditioning));
    const made = control.input_blocks[i].forward(fresh[i - 1] ?? own.x, steering);
    fresh.push(i > 0 ? made : add(made, control.input_hint_block.forward(own.hinted)));
  }
  let h = input('deep', deep.shape);
  for (const i of [2, 1, 0])
    h = unet.output_blocks[8 - i].forward((unet.project_modules[i] as ZeroSFT).forward(fresh[i], skips[i], h, 0.8), conditioning);
  const eps = unet.out.forward(h);
  const byHand = await evaluate(device, eps, { hint, vector: texts.vector, x: x2, timestep: timestepEmbedding([580], 32), deep: made });
  const same = (a: Float32Array, b: Float32Array) => Math.max(...a.map((value, i) => Math.abs(value - b[i])));
  assert.ok(same(reused.negative, byHand.subarray(0, x2.length)) < 1e-5 && same(reused.positive, byHand.subarray(x2.length)) < 1e-5);
  assert.ok(same(reused.positive, (await uncached.network(second)).positive) > 1e-3, 'the features are those of the step before');
  for (const each of [denoiser, uncached]) each.dispose();
  assert.is(device.memory.bytes, before);
});

test('where no step reuses, the plan is that of the networks alone', () => {
  const planOf = (given: GivenOptions) => {
    const options = chooseOptions({ ...OPTIONS, ...given }, model.config);
    const stage = SUPIR.stages(options).find(({ name }) => name === 'sample')!;
    const size = { width: 48, height: 32 };
    const { reuses, programs } = stage.plan({ model, options, size, photo: size, budget: 1e9 });
    return { reuses, text: planText(programs[0].plan), beside: programs[0].beside };
  };
  const alone = plan(model.networks.denoiserGraph([1, 8, 12, 16], 77, 2), device.facts, device.gpu.limits);
  assert.equal(planOf({}), { reuses: undefined, text: planText(alone), beside: undefined });
  assert.equal(planOf({ cache: 0 }), planOf({}));
  assert.is.not(planOf({ cache: 0.5 }).text, planText(alone));
});

test('every window reuses features of its own, and gives them back', async () => {
  const shape = [1, 24, 16, 16];
  const [hint, x1, x2] = [1, 2, 3].map((seed) => noise(seed, shape));
  const text = await model.condition(model.tokens(''));
  const windows = samplingWindows(model, shape, 16, 8)!;
  assert.is(windows.length, 2);
  const before = device.memory.bytes;
  const [first, second] = [
    { x: x1, timestep: 600, controlScale: 1 },
    { x: x2, timestep: 580, controlScale: 1, reuse: true },
  ];
  const { network, dispose } = await tiledDenoiser(model, { data: hint, shape }, null, [text], windows, { cachedWindows: 2 });
  await network(first);
  const tiled = await network(second);
  dispose();
  assert.is(device.memory.bytes, before);
  // One window after the other, both steps each, in a program that keeps one.
  const crop = (data: Float32Array, i: number) => cropWindow(data, shape, windows[i]);
  const alone = await model.denoiser({ data: crop(hint, 0), shape: [1, 16, 16, 16] }, null, text, { cachedWindows: 1 });
  const answers: Awaited<ReturnType<typeof alone.evaluate>>[] = [];
  for (const i of windows.keys()) {
    await alone.evaluate({ ...first, x: crop(x1, i) }, { hint: crop(hint, i) });
    answers.push(await alone.evaluate({ ...second, x: crop(x2, i) }));
  }
  alone.dispose();
  assert.equal(tiled, await tiledNetwork(async (_, i) => answers[i], windows, shape)(second));
});

test('sampling takes a tile’s memory whatever the image, and frees it', async () => {
  const text = await model.condition(model.tokens(''));
  const peakOf = async (h: number, w: number) => {
    const hint = { data: new Float32Array(h * w * 16), shape: [1, h, w, 16] };
    const windows = samplingWindows(model, hint.shape, 16, 0)!;
    const before = { ...device.memory };
    device.memory.peak = before.bytes;
    const { network, dispose } = await tiledDenoiser(model, hint, text, [text], windows);
    await network({ x: hint.data, timestep: 500, controlScale: 1 });
    dispose();
    assert.equal([device.memory.buffers, device.memory.bytes], [before.buffers, before.bytes]);
    return device.memory.peak - before.bytes;
  };
  await peakOf(16, 20); // loads the weights; compared are the later runs
  assert.is(await peakOf(16, 20), await peakOf(40, 32));
});

test('a prompt for each tile changes its tile; their number must be that of the tiles', async () => {
  const image = picture(64, 96);
  const options = { steps: 2, tile: 16 };
  const [same, other] = [
    await restore(image, options, ['a cat', 'a cat']),
    await restore(image, options, ['a cat', 'a house by the sea, at night']),
  ];
  assert.equal(same.latent!.data, (await restore(image, options, ['a cat'])).latent!.data, 'one prompt for all');
  const change = (x: number) => {
    let sum = 0;
    for (let y = 0; y < 16; y++)
      for (let k = 0; k < 16; k++) sum += Math.abs(same.latent!.data[(y * 24 + x) * 16 + k] - other.latent!.data[(y * 24 + x) * 16 + k]);
    return sum;
  };
  assert.ok(change(22) > 100 * change(0), `at the right ${change(22)}, at the left ${change(0)}`);
  const working = { picture: () => assert.unreachable('work began') };
  const refused = await restore(image, options, ['a', 'b', 'c'], working).catch((error) => error);
  assert.instance(refused, UserError);
  assert.match(refused.message, /3 prompts for 2 tiles/);
  const whole = await restore(image, { ...options, tile: 0 }, ['a', 'b'], working).catch((error) => error);
  assert.match(whole.message, /sampled whole/);
});

test('a picture smaller than a tile is sampled whole, and tiles must suit the UNet', async () => {
  assert.is(samplingWindows(model, [1, 16, 16, 16], 16, 8), null);
  assert.is(samplingWindows(model, [1, 200, 200, 16], 0, 0), null);
  assert.is(samplingWindows(model, [1, 16, 24, 16], 16, 0)!.length, 2);
  assert.throws(() => samplingWindows(model, [1, 16, 24, 16], 14, 0), /multiple of 4/);
  const image = picture(64, 64);
  const [a, b] = [await restore(image, { steps: 2, tile: 16 }), await restore(image, { steps: 2, tile: 0 })];
  assert.equal(a.latent!.data, b.latent!.data);
});

test('samplers and noises: each gives its own latent from one stage-1 image; without guidance the negative prompt is not read', async () => {
  const image = picture(64, 64);
  const latents = new Set<string>();
  const given: GivenOptions[] = [
    { sampler: 'edm' },
    { sampler: 'edm', rng: 'torch-cuda' },
    { sampler: 'dpmpp2m' },
    { sampler: 'euler', cfg: 1, cfgStart: 1 },
  ];
  let stage1: Float32Array | undefined;
  for (const options of given) {
    const result = await restore(image, { steps: 3, ...options });
    stage1 ??= result.stage1.data;
    assert.equal(result.stage1.data, stage1);
    assert.ok(result.latent!.data.every(Number.isFinite));
    latents.add(result.latent!.data.slice(0, 16).join());
    assert.is(result.negative === null, options.sampler === 'euler');
  }
  assert.is(latents.size, given.length);
});

test('guidance of 1 with and without the negative branch agree', async () => {
  const [hint, x] = [picture(16, 16), picture(16, 16)].map(({ data }) =>
    Float32Array.from({ length: 16 * 16 * 16 }, (_, i) => data[i % data.length]),
  );
  const [positive, negative] = [await model.condition(model.tokens('a cat')), await model.condition(model.tokens('blurry'))];
  const of = async (branch: typeof negative | null) => {
    const denoiser = await model.denoiser({ data: hint, shape: [1, 16, 16, 16] }, branch, positive);
    const result = await denoiser.network({ x, timestep: 300, controlScale: 1 });
    denoiser.dispose();
    return result;
  };
  const [both, alone] = [await of(negative), await of(null)];
  assert.equal(alone.negative, alone.positive);
  const worst = both.positive.reduce((most, value, i) => Math.max(most, Math.abs(value - alone.positive[i])), 0);
  assert.ok(worst < 1e-5, `${worst}`);
});

test.run();
