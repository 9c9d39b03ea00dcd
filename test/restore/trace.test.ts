/** Traces: the activations under their checkpoint names, the same result with and without, and pictures of channels. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import { input, type Shape, sizeOf } from '../../core/tensor.ts';
import { evaluate } from '../../gpu/program.ts';
import { concat } from '../../kernels/copy.ts';
import { timestepEmbedding } from '../../models/timestep-embedding.ts';
import type { Values } from '../../restore/networks.ts';
import { SupirModel } from '../../restore/supir-model.ts';
import { matcher, mosaic, traceTo } from '../../restore/trace.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { testDevice } from '../support/device.ts';
import { TINY, tinySupir } from '../support/tiny-supir.ts';

const device = await testDevice();
const supir = await tinySupir();
const model = new SupirModel(device, supir);
const random = new TorchRandom(5);
const values = (shape: Shape): Values => ({ shape, data: random.randn(sizeOf(shape)) });
const { unet } = TINY;
const [hint, x] = [values([1, 4, 6, 4]), values([1, 4, 6, 4])];
const text = () => ({ context: values([1, 6, unet.context_dim]), vector: values([1, unet.adm_in_channels]) });
const [negative, positive] = [text(), text()];

test.after(() => device.residency.releaseAll(supir));

test('a trace takes what its names say, in files and pictures, and changes nothing', async () => {
  const files: [string, Uint8Array<ArrayBuffer>][] = [];
  const pictures: string[] = [];
  const writer = {
    file: async (name: string, bytes: Uint8Array<ArrayBuffer>) => void files.push([name, bytes]),
    picture: async (name: string) => void pictures.push(name),
  };
  const predict = async (names: string[] | null) => {
    const denoiser = await model.denoiser(hint, negative, positive, { tap: names && traceTo(writer, names) });
    const result = await denoiser.network({ x: x.data, timestep: 400, controlScale: 1 });
    const again = await denoiser.network({ x: x.data, timestep: 400, controlScale: 1 });
    assert.equal(again.positive, result.positive);
    denoiser.dispose();
    return result;
  };
  const plain = await predict(null);
  const traced = await predict(['model.control_model.middle_block', 'model.diffusion_model.output_blocks.*']);
  for (const branch of ['negative', 'positive'] as const) {
    for (const [i, value] of plain[branch].entries())
      assert.ok(Math.abs(value - traced[branch][i]) < 1e-5, `${branch} ${i}: ${value}, ${traced[branch][i]}`);
  }
  assert.equal(
    files.map(([name]) => name),
    ['evaluation-001', 'evaluation-002'],
  );
  const file = await openSafetensors(bytesSource('trace', files[0][1]));
  const outputs = supir.model.diffusion_model.output_blocks.map((_, i) => `model.diffusion_model.output_blocks.${i}`);
  assert.equal(file.names().sort(), ['model.control_model.middle_block', ...outputs]);
  assert.is(pictures.length, 2 * (outputs.length + 1));
  assert.ok(pictures.includes(`evaluation-001.${outputs[0]}`));

  // The control network by itself gives the same middle.
  const twice = (name: string, shape: Shape) => {
    const one = input(name, shape);
    return concat([one, one], 0);
  };
  const [context, vector] = [input('context', [2, 6, unet.context_dim]), input('vector', [2, unet.adm_in_channels])];
  const timestep = input('timestep', [1, unet.model_channels]);
  const features = supir.model.control_model.forward(twice('x', x.shape), twice('hint', hint.shape), timestep, context, vector);
  const join = (key: 'context' | 'vector') => Float32Array.of(...negative[key].data, ...positive[key].data);
  const expected = await evaluate(device, features[features.length - 1], {
    x: x.data,
    hint: hint.data,
    timestep: timestepEmbedding([400], unet.model_channels),
    context: join('context'),
    vector: join('vector'),
  });
  const middle = await file.f32('model.control_model.middle_block');
  assert.is(middle.length, expected.length);
  for (const [i, value] of expected.entries()) assert.ok(Math.abs(value - middle[i]) < 1e-4, `${i}: ${value}, ${middle[i]}`);
});

test('names that are not there are refused with those that are; patterns are names with *', async () => {
  const writer = { file: async () => {}, picture: async () => {} };
  try {
    await model.denoiser(hint, null, positive, { tap: traceTo(writer, ['output_blocks.0']) });
    assert.unreachable('it was not refused');
  } catch (error) {
    assert.match(
      (error as Error).message,
      /There are: .*model\.control_model\.input_blocks\.0, .*model\.diffusion_model\.project_modules\.0/,
    );
  }
  const matches = matcher(['a.*', 'b.1']);
  assert.equal(['a.1', 'a.b.c', 'b.1', 'b.10', 'ab1', 'xa.1'].map(matches), [true, true, true, false, false, false]);
  assert.throws(() => matcher(['a(']), /'a\(' is no name of an activation/);
});

test('a mosaic shows each channel of the last image, grey where it is plain', () => {
  const [height, width, channels] = [2, 3, 5];
  const data = new Float32Array(2 * height * width * channels);
  data[30 + 4] = 100; // last image, first pixel, last channel
  const picture = mosaic({ data, shape: [2, height, width, channels] });
  assert.equal([picture.width, picture.height], [3 * width + 2, 2 * height + 1]);
  const pixel = (px: number, py: number) => picture.data[(py * picture.width + px) * 3];
  assert.equal([pixel(0, 0), pixel(width + 1, height + 1), pixel(width + 2, height + 1)], [127, 241, 104]);
  assert.is(pixel(width, 0), 0, 'the gap');
});

test.run();
