/** Untrained models: the same from a seed, of the published layout, and with an autoencoder that is the best linear one of its photos. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseJsonBytes } from '../../core/json.ts';
import { TorchRandom } from '../../core/random.ts';
import { input } from '../../core/tensor.ts';
import { compile } from '../../gpu/program.ts';
import { parseConfig } from '../../models/config.ts';
import { Supir } from '../../models/supir.ts';
import { meanOf } from '../../models/vae.ts';
import { readModelConfig } from '../../restore/model-config.ts';
import { SupirModel } from '../../restore/supir-model.ts';
import type { TrainingPicture } from '../../train/autoencoding.ts';
import { startLinear } from '../../train/linear-start.ts';
import { writeNewModel } from '../../train/model-files.ts';
import { principalComponents } from '../../train/principal-components.ts';
import { untrained, type Weights } from '../../train/untrained.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { testDevice } from '../support/device.ts';
import { projectFile } from '../support/fixtures.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { refused } from '../support/refused.ts';
import { TINY } from '../support/tiny-supir.ts';

const device = await testDevice();
const SMALL = { ...TINY, vae: { ...TINY.vae, ch: 8, ch_mult: [1, 2, 3], z_channels: 6, norm_groups: 2 } };

test('principal components of a slanted cloud', () => {
  const random = new TorchRandom(2);
  const spreads = [3, 1, 0.2];
  const axes = [
    [2 / 3, 2 / 3, 1 / 3],
    [-2 / 3, 1 / 3, 2 / 3],
    [1 / 3, -2 / 3, 2 / 3],
  ];
  const count = 4000;
  const data = new Float32Array(count * 3);
  for (let row = 0; row < count; row++) {
    const drawn = random.randn(3);
    for (let i = 0; i < 3; i++) data[row * 3 + i] = 5 - i + axes.reduce((sum, axis, k) => sum + axis[i] * spreads[k] * drawn[k], 0);
  }
  const { mean, vectors, variances } = principalComponents(data, 3);
  for (let i = 0; i < 3; i++) {
    assert.ok(Math.abs(mean[i] - (5 - i)) < 0.2, `mean ${mean}`);
    assert.ok(Math.abs(Math.sqrt(variances[i]) / spreads[i] - 1) < 0.05, `variances ${variances}`);
    const along = axes[i].reduce((sum, value, k) => sum + value * vectors[3 * i + k], 0);
    assert.ok(Math.abs(along) > 0.999, `direction ${i}: ${vectors}`);
  }
});

/** Smooth slopes and waves of random colours: what few components can say. */
function waves(seed: number): TrainingPicture {
  const random = new TorchRandom(seed);
  const [side, color, slope] = [24, random.rand(9), random.rand(6)];
  const pixels = new Float32Array(side * side * 3);
  for (let i = 0; i < pixels.length; i++) {
    const [x, y, c] = [Math.floor(i / 3) % side, Math.floor(i / 3 / side), i % 3];
    const wave = Math.sin(slope[0] * x + slope[1] * y + 6 * slope[2]) * color[c];
    pixels[i] = 0.6 * wave + 0.4 * (color[3 + c] - 0.5) + (slope[4] * x + slope[5] * y) * 0.02 * (color[6 + c] - 0.5);
  }
  return { name: `waves ${seed}`, shape: [side, side, 3], pixels };
}

/** PSNR in dB of the autoencoder on a picture. */
async function fidelity(weights: Weights, picture: TrainingPicture): Promise<number> {
  const supir = new Supir(SMALL);
  const vae = supir.first_stage_model;
  for (const [name, { values }] of weights) {
    const path = name.split('.').reduce<unknown>((node, key) => (node as Record<string, unknown>)[key], supir);
    Object.assign(path as object, { name, dtype: 'f32', source: { read: async () => values, readRows: async () => values } });
  }
  const x = input('x', [1, ...picture.shape]);
  const program = await compile(device, { y: vae.decode(meanOf(vae.encode(x, 'encoder'))) });
  const { y } = await program.run({ x: picture.pixels });
  program.dispose();
  supir.release(device);
  const error = picture.pixels.reduce((sum, value, i) => sum + (value - y[i]) ** 2, 0) / y.length;
  return 10 * Math.log10(4 / error);
}

test('a linear start makes an autoencoder that works before any training, for photos that it has not seen', async () => {
  const { buffers, bytes } = device.memory;
  const weights = untrained(SMALL, 4);
  const photo = waves(100);
  const before = await fidelity(weights, photo);
  const pictures = Array.from({ length: 24 }, (_, i) => waves(i));
  await startLinear(device, SMALL, weights, pictures, { steps: 150, batch: 4, rate: 2e-2, seed: 1 });
  const after = await fidelity(weights, photo);
  assert.ok(before < 12 && after > 20, `${before.toFixed(2)} -> ${after.toFixed(2)} dB`);
  assert.equal({ buffers: device.memory.buffers, bytes: device.memory.bytes }, { buffers, bytes });
});

test('an autoencoder without room for a linear start is refused', async () => {
  await refused(startLinear(device, TINY, untrained(TINY, 1), [waves(1)], { seed: 1 }), /three levels, .* at least 12, 12, .* has 8, 8/);
});

test('a seed gives the same model, which is a folder that can be opened and trained', async () => {
  const json = Uint8Array.from(await projectFile('demo/config.json'));
  const config = parseConfig(parseJsonBytes(json, 'config.json'), 'config.json');
  const [one, same, other] = [untrained(config, 1), untrained(config, 1), untrained(config, 2)];
  const name = 'model.diffusion_model.middle_block.0.in_layers.2.weight';
  assert.equal(one.get(name)!.values, same.get(name)!.values);
  assert.not.equal(one.get(name)!.values, other.get(name)!.values);
  const files = new MemoryFiles();
  await writeNewModel(files, 'new', json, Uint8Array.from(await projectFile('demo/tokenizer.json')), one);
  const model = await SupirModel.open(device, async (file) => bytesSource(file, files.files.get(`new/${file}`)!));
  assert.is(model.config.name, config.name);
  await model.close();
});

test('the demo model of 16 latent channels: sizes, settings and presets are in order', async () => {
  const config = readModelConfig(parseJsonBytes(await projectFile('demo/config.json'), 'config.json'), 'config.json');
  const { vae, unet } = config;
  assert.equal([vae.z_channels, unet.in_channels, unet.out_channels], [16, 16, 16]);
  for (const [name, { shape }] of untrained(config, 1))
    assert.ok(
      shape.every((side) => side > 0),
      name,
    );
});

test.run();
