/** The stages called one by one, as docs/library.md shows it, give the picture that the whole restoration gives. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { crop } from '../../image/compose.ts';
import * as supir from '../../index.ts';
import { testDevice } from '../support/device.ts';
import { projectFile } from '../support/fixtures.ts';

test('stage by stage equals the whole, bit by bit', async () => {
  const device = await testDevice();
  const before = { ...device.memory };
  const model = await supir.SupirModel.open(device, async (name) => supir.bytesSource(name, await projectFile(`demo/${name}`)));
  const photo = crop(await supir.decode(await projectFile('demo/photos/cat-noisy.jpg'), 'cat'), 80, 80, 80, 64);
  const options = supir.chooseOptions({ steps: 2, seed: 7, cfg: 2, prompt: 'a cat. ' }, model.config);
  const whole = await supir.restorePhoto(supir.SUPIR, model, photo, options);

  const { config } = model;
  const random = new supir.TorchRandom(options.seed);
  const noise = ([, h, w, c]: readonly number[]) => {
    const drawn = random.randn(h * w * c);
    return drawn.map((_, i) => drawn[(i % c) * h * w + Math.floor(i / c)]);
  };
  const scale = config.vae.scale_factor;
  const { image: prepared, width, height, width0, height0 } = supir.prepare(photo, { minSize: config.min_size, multiple: config.image_multiple }); // biome-ignore format: as in the guide
  const x = { data: supir.toUnit(prepared).data, shape: [1, height, width, 3] };
  const { mean } = await model.encode(x, 'denoise_encoder');
  const zLq = { ...mean, data: mean.data.map((value) => value * scale) };
  const stage1 = await model.decode(zLq);
  const moments = await model.encode(stage1, 'encoder');
  const zStage1 = supir.sampleMoments(moments, noise(zLq.shape), scale);
  const positive = await model.condition(model.tokens(options.prompt + options.positive));
  const negative = await model.condition(model.tokens(options.negative));
  const denoiser = await model.denoiser(zLq, negative, positive, { moduleScales: null, tap: null });
  const latent = await supir.sampleEdm(denoiser.network, new supir.NoiseSchedule(), {
    steps: options.steps,
    noise: () => noise(zLq.shape),
    cfg: options.cfg,
    cfgStart: options.cfgStart,
    sChurn: options.sChurn,
    sNoise: options.sNoise,
    restoreCfg: options.restoreCfg,
    center: zStage1.data,
  });
  denoiser.dispose();
  const result = await model.decode({ data: latent, shape: zLq.shape });
  const unit = ({ data }: supir.Values) => ({ width, height, channels: 3, data });
  const restored = supir.finish(supir.waveletColorFix(unit(result), unit(stage1)), width0, height0, 'round');
  assert.equal(restored.data, whole.image.data);

  await model.close();
  assert.equal([device.memory.buffers, device.memory.bytes], [before.buffers, before.bytes]);
});

test.run();
