/** One whole restoration with the demo model, from a damaged file's bytes to a picture closer to the original, on whichever host runs this. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { isGrey } from '../../image/grey.ts';
import { luma } from '../../image/luma.ts';
import { psnr } from '../../image/metrics.ts';
import { restorePhoto } from '../../restore/job.ts';
import { SUPIR } from '../../restore/supir.ts';
import { SupirModel } from '../../restore/supir-model.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { testDevice } from '../support/device.ts';
import { projectFile } from '../support/fixtures.ts';

test('a damaged photo comes out closer to the original; a step needs no new pipeline, and every buffer is given back', async () => {
  const device = await testDevice();
  const { buffers, bytes } = device.memory;
  const photo = async (name: string) => crop(await decode(await projectFile(`demo/photos/${name}`), name), 96, 32, 96, 112);
  const [original, damaged] = [await photo('astronaut.png'), await photo('astronaut-noisy.jpg')];
  const model = await SupirModel.open(device, async (name) => bytesSource(name, await projectFile(`demo/${name}`)));

  const pipelines: number[] = [];
  const live: number[] = [];
  const { image, stage1, options } = await restorePhoto(
    SUPIR,
    model,
    damaged,
    { prompt: 'a photo of a woman, ', steps: 5 },
    {
      step() {
        pipelines.push(device.pipelineCount);
        live.push(device.memory.buffers);
      },
    },
  );
  assert.is(pipelines.length, options.steps);
  assert.is(new Set(pipelines).size, 1, `pipelines compiled after the first step: ${pipelines}`);
  assert.is(new Set(live).size, 1, `buffers made after the first step: ${live}`);
  assert.equal([image.width, image.height], [damaged.width, damaged.height]);

  const [before, cleaned, after] = [damaged, stage1, image].map((each) => psnr(original, each));
  assert.ok(cleaned > before + 1, `stage 1: ${before.toFixed(2)} -> ${cleaned.toFixed(2)} dB`);
  assert.ok(after > before + 0.5, `restored: ${before.toFixed(2)} -> ${after.toFixed(2)} dB`);

  await model.close();
  assert.equal({ buffers: device.memory.buffers, bytes: device.memory.bytes }, { buffers, bytes });
});

test('a photo without colour stays exactly grey, and takes the tint that networks give where it may', async () => {
  const device = await testDevice();
  const model = await SupirModel.open(device, async (name) => bytesSource(name, await projectFile(`demo/${name}`)));
  const { width, height, data } = crop(await decode(await projectFile('demo/photos/cat-noisy.jpg'), 'cat'), 96, 32, 64, 64);
  const photo = { width, height, data: Uint8Array.from(data, (_, i) => data[i - (i % 3)]) };
  const { image, stage1, deep } = await restorePhoto(SUPIR, model, photo, {});
  assert.equal([isGrey(photo), isGrey(image), isGrey(stage1), isGrey(deep())], [true, true, true, true]);
  const free = await restorePhoto(SUPIR, model, photo, { grey: 'free' });
  assert.not(isGrey(free.image));
  const [grey, tinted] = [luma(image), luma(free.image)];
  const isWhole = (i: number) => free.image.data.subarray(3 * i, 3 * i + 3).every((value) => value > 0 && value < 255);
  const inside = [...grey.keys()].filter(isWhole);
  assert.ok(inside.length > grey.length / 2 && inside.every((i) => Math.abs(grey[i] - tinted[i]) <= 1), 'the same brightness');
  const touched = { ...photo, data: photo.data.with(5, photo.data[5] ^ 1) };
  assert.not(
    isGrey((await restorePhoto(SUPIR, model, touched, { stage1Only: true })).image),
    'a photo with a little colour is a colour photo',
  );
  await model.close();
});

test.run();
