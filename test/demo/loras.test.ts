/** The LoRAs that ship with the demo model fit it, and do what their model card says: a photo damaged as in training comes out closer to the truth. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parameters } from '../../core/module.ts';
import { crop } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { degrade } from '../../image/degrade.ts';
import { psnr } from '../../image/metrics.ts';
import { restorePhoto } from '../../restore/job.ts';
import { SUPIR } from '../../restore/supir.ts';
import { SupirModel } from '../../restore/supir-model.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { readLora } from '../../weights/lora.ts';
import { openTensorFile } from '../../weights/open.ts';
import { testDevice } from '../support/device.ts';
import { projectFile } from '../support/fixtures.ts';

const open = async (name: string) => bytesSource(name, await projectFile(`demo/${name}`));

test('both LoRAs: every layer is found, and a face gains', async () => {
  const device = await testDevice();
  const truth = crop(await decode(await projectFile('demo/photos/astronaut.png'), 'astronaut.png'), 80, 64, 96, 96);
  const damaged = degrade(truth, { blur: 2, scale: 4 });
  const quality: Record<string, number> = {};
  for (const name of ['none', 'landscape', 'portrait']) {
    const model = await SupirModel.open(device, open);
    if (name !== 'none') {
      const source = await open(`loras/${name}.safetensors`);
      const weights = [...parameters(model.networks)].map(([, parameter]) => parameter);
      assert.is((await readLora(await openTensorFile(source), weights)).layers.length, 132);
      await model.addLora(source, 1);
    }
    quality[name] = psnr(truth, (await restorePhoto(SUPIR, model, damaged, {})).image);
    await model.close();
  }
  const { none, landscape, portrait } = quality;
  assert.ok(landscape > none + 0.01 && portrait > none + 0.01, JSON.stringify(quality));
});

test.run();
