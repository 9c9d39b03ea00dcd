/**
 * `npm run restore-demo [-- --all]`: restores a damaged photo (or all four) with the demo model, compares with the original and writes the
 * result and a side-by-side picture under out/demo/.
 */
import { parseArgs } from 'node:util';
import { duration, progress } from '../cli/progress.ts';
import { openDevice } from '../gpu/device.ts';
import { host } from '../host/node.ts';
import { sideBySide } from '../image/compose.ts';
import { decode } from '../image/decode.ts';
import { encodePng } from '../image/encode.ts';
import type { Image } from '../image/image.ts';
import { psnr, ssim } from '../image/metrics.ts';
import { restorePhoto } from '../restore/job.ts';
import { SUPIR } from '../restore/supir.ts';
import { SupirModel } from '../restore/supir-model.ts';
import { DEGRADATIONS, DEMO_PHOTOS, type DemoPhoto, damagedPath, originalPath } from './demo-photos.ts';

const OUT = 'out/demo';

const { values } = parseArgs({ options: { all: { type: 'boolean', default: false } } });
try {
  await restoreDemo(values.all ? DEMO_PHOTOS : DEMO_PHOTOS.slice(0, 1));
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}

async function restoreDemo(photos: DemoPhoto[]): Promise<void> {
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
  console.log(`Adapter: ${device.facts.description || device.facts.device}`);
  const model = await SupirModel.open(device, (name) => host.fileSource(`demo/${name}`));
  for (const photo of photos) await show(model, photo);
  await model.close();
  device.close();
}

async function show(model: SupirModel, photo: DemoPhoto): Promise<void> {
  const [original, degraded] = [await read(originalPath(photo)), await read(damagedPath(photo))];
  const { seed: _, ...damage } = DEGRADATIONS[photo.damage];
  const title = `${photo.name}, ${photo.damage}`;
  const begun = performance.now();
  const shown = progress(title);
  const { image: restored, stage1 } = await restorePhoto(SUPIR, model, degraded, {}, shown).finally(shown.stop);
  const took = duration(performance.now() - begun);
  console.log(
    `\n${title} (${Object.entries(damage)
      .map(([kind, amount]) => `${kind} ${amount}`)
      .join(', ')}), ${original.width}x${original.height} pixels, ${took}`,
  );
  console.log('             PSNR dB    SSIM');
  for (const [name, image] of Object.entries({ degraded, 'stage 1': stage1, restored })) {
    console.log(`  ${name.padEnd(10)} ${psnr(image, original).toFixed(2).padStart(7)} ${ssim(image, original).toFixed(3).padStart(7)}`);
  }
  const label = (name: string, image: Image) => ({ image, label: `${name} ${psnr(image, original).toFixed(2)} dB` });
  const parts = [
    { image: original, label: 'original' },
    label(photo.damage, degraded),
    label('stage 1', stage1),
    label('restored', restored),
  ];
  await write(`${OUT}/${photo.name}-${photo.damage}.png`, restored);
  await write(`${OUT}/${photo.name}-${photo.damage}-compared.png`, sideBySide(parts));
}

async function read(path: string): Promise<Image> {
  return decode(await host.readFile(path), path);
}

async function write(path: string, image: Image): Promise<void> {
  await host.writeFileAtomic(path, encodePng(image));
  console.log(`  ${path}`);
}
