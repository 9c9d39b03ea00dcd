/**
 * A network learns one picture: from a pixel's place to its colour. It is traced, trained and run in thirty lines; docs/framework.md explains them.
 * Run it with: npx tsx examples/fit-picture.ts [folder for the result, default out/examples]
 */
import { argv } from 'node:process';
import { decode, encodePng } from 'supir-webgpu';
import { DEMO } from 'supir-webgpu/demo';
import * as fw from 'supir-webgpu/framework';
import { host } from 'supir-webgpu/host/node';

const SIZE = 48;
const photo = await decode(await host.readFile(`${DEMO}/photos/astronaut.png`), 'astronaut.png');
const step = photo.width / SIZE;
const colours = Float32Array.from({ length: SIZE * SIZE * 3 }, (_, i) => {
  const [x, y] = [Math.floor(i / 3) % SIZE, Math.floor(i / 3 / SIZE)];
  return photo.data[(Math.floor(y * step) * photo.width + Math.floor(x * step)) * 3 + (i % 3)] / 255;
});

/** (P, 2) places from -1 to 1 -> (P, 3) colours from 0 to 1. Waves of the place come first (Tancik et al. 2020, arXiv 2006.10739). */
class Picture extends fw.Module {
  waves = new fw.Linear(2, 64);
  layers = new fw.Sequential(new fw.Linear(128, 64), fw.silu, new fw.Linear(64, 64), fw.silu, new fw.Linear(64, 3), fw.sigmoid);

  forward(place: fw.Tensor): fw.Tensor {
    const phase = this.waves.forward(fw.affine(place, 12, 0));
    return this.layers.forward(fw.concat([fw.sin(phase), fw.cos(phase)]));
  }
}

const network = new Picture();
const { weights, values } = fw.drawWeights(network, 1);
const places = Float32Array.from(
  { length: SIZE * SIZE * 2 },
  (_, i) => ((i % 2 ? Math.floor(i / 2 / SIZE) : (i >> 1) % SIZE) / SIZE) * 2 - 1,
);
const place = fw.input('place', [SIZE * SIZE, 2]);
const answer = network.forward(place);
const task: fw.Task<fw.TrainingItem> = {
  levels: 1,
  graph() {
    const loss = fw.mean(fw.square(fw.sub(answer, fw.input('colour', answer.shape))), { axis: [0, 1] });
    return { loss, perImage: loss };
  },
  inputs: () => ({ place: places, colour: colours }),
};

const device = await fw.openDevice({ gpu: await host.gpu(), settle: host.settle });
const training = new fw.Training(device, task, weights, values, { steps: 200, rate: 0.01, seed: 1, weightDecay: 0 });
const psnr = (loss: number): string => `${(-10 * Math.log10(loss)).toFixed(1)} dB`;
const items = [{ name: 'astronaut', shape: answer.shape }];
for (let done = 1; done <= 200; done++) {
  const { loss } = await training.update(items);
  if (done === 1 || done % 100 === 0) console.log(`step ${done}: ${psnr(loss)}`);
}

const learnt = await fw.evaluate(device, answer, { place: places });
const file = `${argv[2] ?? 'out/examples'}/fitted.png`;
await host.writeFileAtomic(
  file,
  encodePng({ width: SIZE, height: SIZE, data: Uint8Array.from(learnt, (value) => Math.round(value * 255)) }),
);
console.log(`wrote ${file}`);
await training.dispose();
device.close();
