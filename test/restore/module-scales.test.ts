/** Control scales of single project modules, for research: each reaches its own module, and nothing is compiled again. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import { input, type Shape, scalar, sizeOf } from '../../core/tensor.ts';
import { compile } from '../../gpu/program.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { chooseOptions, type GivenOptions } from '../../restore/choose-options.ts';
import type { Values } from '../../restore/networks.ts';
import { moduleScalesOf } from '../../restore/options.ts';
import { SupirModel } from '../../restore/supir-model.ts';
import { testDevice } from '../support/device.ts';
import { TINY, tinySupir } from '../support/tiny-supir.ts';

const device = await testDevice();
const supir = await tinySupir();
const model = new SupirModel(device, supir);
const modules = supir.projectModules;
const random = new TorchRandom(3);
const values = (shape: Shape): Values => ({ shape, data: random.randn(sizeOf(shape)) });
const { unet } = TINY;

test.after(() => device.residency.releaseAll(supir));

test('factors act as the control scale does; each module has its own; no pipeline is made for them', async () => {
  const [hint, x] = [values([1, 4, 6, 4]), values([1, 4, 6, 4])];
  const text = { context: values([1, 6, unet.context_dim]), vector: values([1, unet.adm_in_channels]) };
  const predict = async (controlScale: number, scales: number[] | null) => {
    const denoiser = await model.denoiser(hint, null, text, { moduleScales: scales });
    const { positive } = await denoiser.network({ x: x.data, timestep: 400, controlScale });
    denoiser.dispose();
    return positive.slice();
  };
  const all = (value: number) => new Array<number>(modules).fill(value);
  const whole = await predict(0.8, null);
  const pipelines = device.pipelineCount;
  assert.equal(await predict(0.8, all(1)), whole);
  assert.equal(await predict(1.6, all(0.5)), whole);
  assert.equal(await predict(0.8, all(0)), await predict(0, null));
  const ablated: Float32Array[] = [];
  for (let i = 0; i < modules; i++) ablated.push(await predict(0.8, all(1).with(i, 0)));
  const distinct = new Set([whole, ...ablated].map((each) => each.join()));
  assert.is(distinct.size, modules + 1, 'switching off one module or another or none makes a difference');
  assert.is(device.pipelineCount, pipelines);
});

test('the first module is the last skip connection, the last one the middle block', async () => {
  const diffusion = supir.model.diffusion_model;
  const shapes = supir.model.control_model
    .forward(
      input('x', [1, 4, 4, 4]),
      input('hint', [1, 4, 4, 4]),
      input('t', [1, unet.model_channels]),
      input('c', [1, 6, unet.context_dim]),
      input('v', [1, unet.adm_in_channels]),
    )
    .map(({ shape }) => shape);
  const features = shapes.map((shape, i) => input(`feature ${i}`, shape));
  const scale = Array.from({ length: modules }, (_, i) => scalar(`scale ${i}`));
  const given = {
    x: values([1, 4, 4, 4]),
    t: values([1, unet.model_channels]),
    c: values([1, 6, unet.context_dim]),
    v: values([1, unet.adm_in_channels]),
  };
  const [x, t, c, v] = Object.entries(given).map(([name, { shape }]) => input(name, shape));
  const program = await compile(device, { eps: diffusion.forward(x, t, c, v, { features, scale }) });
  const data = Object.fromEntries(Object.entries(given).map(([name, each]) => [name, each.data]));
  const control = shapes.map(values);
  /** Which features matter when only one module acts. */
  const seen = async (module: number) => {
    const scales = Object.fromEntries(scale.map(({ name }, i) => [name, i === module ? 1 : 0]));
    const run = async (changed: number) => {
      const all = Object.fromEntries(
        control.map((each, i) => [`feature ${i}`, i === changed ? each.data.map((value) => -value) : each.data]),
      );
      return (await program.run({ ...data, ...scales, ...all })).eps;
    };
    const before = (await run(-1)).join();
    const result: number[] = [];
    for (let i = 0; i < features.length; i++) if ((await run(i)).join() !== before) result.push(i);
    return result;
  };
  assert.equal(await seen(0), [0]);
  assert.equal(await seen(modules - 1), [features.length - 1]);
  program.dispose();
});

test('the options give factors for all modules, or none', () => {
  const scales = (given: GivenOptions, count: number) => moduleScalesOf(chooseOptions(given, SUPIR_SDXL), count);
  assert.is(scales({}, 3), null);
  assert.equal(scales({ ablate: [1] }, 3), [1, 0, 1]);
  assert.equal(scales({ controlScalePerModule: [0.5, 1, 2], ablate: [2] }, 3), [0.5, 1, 0]);
  assert.throws(() => scales({ ablate: [3] }, 3), /'ablate' names project module 3; this model has those from 0 to 2/);
  assert.throws(() => scales({ controlScalePerModule: [1] }, 3), /has 1 factors; this model has 3 project modules/);
  assert.throws(() => scales({ controlScalePerModule: [3] }, 1), /must be a list of numbers from 0 to 2/);
  assert.throws(() => scales({ ablate: [0.5] }, 3), /list of integers/);
});

test.run();
