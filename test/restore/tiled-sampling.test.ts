/** Restoring with the demo model in latent tiles: no seams, memory of a tile, one prompt a tile; and the samplers and noises to choose from. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { fromUnit } from '../../image/image.ts';
import { measureSeams } from '../../image/seams.ts';
import { chooseOptions, type GivenOptions } from '../../restore/choose-options.ts';
import { images, type Values } from '../../restore/networks.ts';
import type { RestoreEvents } from '../../restore/stage.ts';
import { restoreImages } from '../../restore/supir.ts';
import { SupirModel } from '../../restore/supir-model.ts';
import { samplingWindows, tiledDenoiser } from '../../restore/tiled-denoiser.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { testDevice } from '../support/device.ts';
import { projectFile } from '../support/fixtures.ts';

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
