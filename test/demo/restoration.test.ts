/** One whole restoration with the demo model, from a damaged file's bytes to a picture closer to the original, on whichever host runs this. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { psnr } from '../../image/metrics.ts';
import { restorePhoto } from '../../restore/job.ts';
import { SupirModel } from '../../restore/model-folder.ts';
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

test.run();
