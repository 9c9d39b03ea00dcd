/** The demo model's stored result, computed again on a device: photo, latent, stage 1, prompts, four sampling steps and the colour-fixed picture. */
import type { Device } from '../gpu/device.ts';
import { waveletColorFix } from '../image/color-fix.ts';
import { sampleMoments } from '../restore/latents.ts';
import { images, type Values } from '../restore/networks.ts';
import { SupirModel } from '../restore/supir-model.ts';
import { sampleEdm } from '../sampler/edm.ts';
import { NoiseSchedule } from '../sampler/schedule.ts';
import type { ByteSource } from '../weights/byte-source.ts';
import { openSafetensors, type Safetensors } from '../weights/safetensors.ts';
import { toChannelsLast, unitImage } from './golden.ts';

/** Sampling as the reference's metadata tells it. */
export const REFERENCE_SAMPLING = { steps: 4, sChurn: 5, sNoise: 1.003, cfg: 4, cfgStart: 1, restoreCfg: 2, controlScale: 1 };

/** What of the result's standard deviation it may be off; other drivers sum in another order, and sampling multiplies that. */
const ALLOWED = 2e-3;

/** The comparison below on a device, with the demo model's files opened by name; closes what it opened. */
export function storedRestoration(open: (name: string) => Promise<ByteSource>): (device: Device) => Promise<number> {
  return async (device) => {
    const model = await SupirModel.open(device, open);
    const source = await open('reference.safetensors');
    try {
      return await demoShare(model, await openSafetensors(source));
    } finally {
      await model.close();
      await source.close?.();
    }
  };
}

/** The largest difference of the restored picture from the stored one, as a share of what is allowed. */
export async function demoShare(model: SupirModel, reference: Safetensors): Promise<number> {
  const values = async (name: string): Promise<Values> =>
    toChannelsLast({ data: await reference.f64(name), shape: reference.info(name).shape });
  const text = async (which: string) => model.condition(model.tokens(reference.metadata.get(which)!));
  const x = unitImage({ data: await reference.f64('small/lq_u8'), shape: reference.info('small/lq_u8').shape });
  const scale = model.config.vae.scale_factor;
  const { mean } = await model.encode(x, 'denoise_encoder');
  const zLq = { shape: mean.shape, data: mean.data.map((value) => value * scale) };
  const stage1 = await model.decode(zLq);
  const zStage1 = sampleMoments(await model.encode(stage1, 'encoder'), (await values('small/noise/z_stage1')).data, scale);
  const { steps } = REFERENCE_SAMPLING;
  const noises = await Promise.all(Array.from({ length: steps + 1 }, (_, i) => values(`small/edm/noise${i}`)));
  const denoiser = await model.denoiser(zLq, await text('negative'), await text('positive'));
  let drawn = 0;
  let data: Float32Array;
  try {
    const noise = () => noises[drawn++].data;
    data = await sampleEdm(denoiser.network, new NoiseSchedule(), { ...REFERENCE_SAMPLING, center: zStage1.data, noise });
  } finally {
    denoiser.dispose();
  }
  const [image] = images(await model.decode({ shape: zLq.shape, data }));
  const fixed = waveletColorFix(image, images(stage1)[0]).data;
  const expected = (await values('small/edm/image_wavelet')).data;
  const average = expected.reduce((sum, value) => sum + value, 0) / expected.length;
  const std = Math.sqrt(expected.reduce((sum, value) => sum + (value - average) ** 2, 0) / expected.length);
  return fixed.reduce((worst, value, i) => Math.max(worst, Math.abs(value - expected[i])), 0) / std / ALLOWED;
}
