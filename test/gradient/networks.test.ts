/**
 * Every network as a whole, by all of its weights: the derivative along a random direction against the difference of two losses in f64, and
 * the same with activations computed a second time. A rule that is missing, or a derivative that is lost on the way, shows here.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { topological } from '../../core/graph.ts';
import type { Parameter } from '../../core/module.ts';
import { TorchRandom } from '../../core/random.ts';
import { storedOrder } from '../../core/stored-order.ts';
import { input, type Shape, sizeOf, type Tensor } from '../../core/tensor.ts';
import { compile, type RunInputs } from '../../gpu/program.ts';
import { gradient } from '../../kernels/gradient.ts';
import { mean } from '../../kernels/reduce.ts';
import { reshape } from '../../kernels/reshape.ts';
import { square } from '../../kernels/unary.ts';
import { addedFeatures, IrControlNet } from '../../models/ir-control-net.ts';
import { RrdbNet } from '../../models/rrdb-net.ts';
import { ConvTransBlock } from '../../models/scunet.ts';
import { SwinIr } from '../../models/swinir.ts';
import { Unet } from '../../models/unet.ts';
import { derivatives } from '../../train/step.ts';
import { testDevice } from '../support/device.ts';
import { inF64 } from '../support/graph-reference.ts';
import { tinyBase, withRandomWeights } from '../support/tiny-diffbir.ts';
import { TINY, tinySupir } from '../support/tiny-supir.ts';

const device = await testDevice();
const supir = await tinySupir();
const { unet, text } = TINY;

const values = new Map<string, Float32Array>();
const random = new TorchRandom(4);
function given(name: string, shape: Shape): Tensor {
  if (!values.has(name)) values.set(name, random.randn(sizeOf(shape)));
  return input(name, shape);
}

const loss = (y: Tensor) => mean(reshape(square(y), [y.size]));

const graphs: Record<string, () => Tensor> = {
  'UNet with control': () => {
    const x = given('x', [2, 4, 6, 4]);
    const [t, c, v] = [given('t', [2, unet.model_channels]), given('c', [2, 6, unet.context_dim]), given('v', [2, unet.adm_in_channels])];
    const features = supir.model.control_model.forward(x, given('hint', [2, 4, 6, 4]), t, c, v);
    return supir.model.diffusion_model.forward(x, t, c, v, { features, scale: 0.7 });
  },
  encoder: () => supir.first_stage_model.encode(given('image', [1, 8, 12, 3]), 'denoise_encoder'),
  decoder: () => supir.first_stage_model.decode(given('z', [1, 4, 6, 4])),
  'CLIP-L': () => supir.conditioner.embedders[0].transformer.forward(given('tokens', [1, 6, text.tower1.dim]), 1),
  bigG: () => supir.conditioner.embedders[1].model.forward(given('tokens', [1, 6, text.tower2.dim]), input('eot', [1], 'u32')).pooled,
};

const rrdb = await withRandomWeights(new RrdbNet({ nf: 8, nb: 1, gc: 4, scale: 2 }), 'f32');
const swinir = await withRandomWeights(
  new SwinIr({ embed_dim: 12, depths: [2], num_heads: [2], window_size: 4, mlp_ratio: 2, unshuffle_scale: 2 }),
  'f32',
);
const scunetBlock = await withRandomWeights(new ConvTransBlock(32, true), 'f32');
const base = await tinyBase();
const stable = await withRandomWeights(new Unet(base.unet), 'f32', 5);
const control = await withRandomWeights(new IrControlNet(base.unet), 'f32', 6);

Object.assign(graphs, {
  RRDBNet: () => rrdb.forward(given('photo', [1, 4, 6, 3])),
  SwinIR: () => swinir.forward(given('blocks', [1, 8, 16, 3])),
  "SCUNet's block": () => scunetBlock.forward(given('features', [1, 8, 16, 64])),
  'SD 2.1 with IRControlNet': () => {
    const [x, hint] = [given('noisy', [1, 8, 8, 4]), given('cleaned', [1, 8, 8, 4])];
    const [t, c] = [given('level', [1, base.unet.model_channels]), given('text', [1, 3, base.unet.context_dim])];
    const join = addedFeatures(control.forward(x, hint, t, c), 0.7);
    return stable.predict(x, t, c, null, join);
  },
});

function inputsOf(tensor: Tensor): RunInputs {
  const named = topological([tensor]).flatMap(({ source }) => (source.kind === 'input' ? [source.name] : []));
  return Object.fromEntries(named.map((name) => [name, values.get(name) ?? Uint32Array.of(3)]));
}

function weightsOf(tensor: Tensor): Parameter[] {
  return [...new Set(topological([tensor]).flatMap(({ source }) => (source.kind === 'parameter' ? [source.parameter] : [])))];
}

async function run(outputs: Record<string, Tensor>, inputs: RunInputs): Promise<Record<string, Float32Array>> {
  const program = await compile(device, outputs);
  try {
    return await program.run(inputs);
  } finally {
    program.dispose();
  }
}

/** 2-norm of what two runs differ by, relative to the first. */
function difference(results: Record<string, Float32Array>, others: Record<string, Float32Array>): number {
  let [square, all] = [0, 0];
  for (const [name, values] of Object.entries(results)) {
    for (const [i, value] of values.entries()) {
      square += (value - others[name][i]) ** 2;
      all += value ** 2;
    }
  }
  return Math.sqrt(square / all);
}

/** Weights without a derivative: whom a single pixel looks at does not depend on its query. */
const IDLE: Record<string, RegExp> = { 'SD 2.1 with IRControlNet': /middle_block\.1\..*\.attn1\.to_[qk]\.weight$/ };

/**
 * From the weights to either of two losses: so short that hardly a relu changes its side between them. With 2e-4, which two losses of f32 would need,
 * enough of them do to be off by 1.5 % in SCUNet's block; the networks without relu agree from 2e-5 down.
 */
const STEP = 1e-8;

for (const [name, graph] of Object.entries(graphs)) {
  test(`${name}: the derivative along a random direction, by all weights`, async () => {
    const total = loss(graph());
    const weights = weightsOf(total);
    assert.ok(weights.length > 15);
    const inputs = inputsOf(total);
    const [results, again] = await Promise.all(
      [false, true].map((checkpointing) =>
        run({ loss: total, ...Object.fromEntries(derivatives(total, weights, checkpointing).entries()) }, inputs),
      ),
    );
    // A norm reads ZeroSFT's concatenation in parts, or whole where the backward pass keeps it: its moments are then summed in another order.
    const apart = difference(results, again);
    assert.ok(apart <= (name === 'UNet with control' ? 5e-6 : 0), `computed a second time it differs by ${apart}`);

    const start = new Map<Parameter, Float32Array>();
    for (const weight of weights) start.set(weight, storedOrder((await weight.source!.read()) as Float32Array, weight));
    const direction = new Map(weights.map((weight) => [weight, random.randn(sizeOf(weight.shape))]));
    let along = 0;
    let length = 0;
    for (const [i, weight] of weights.entries()) {
      const slope = results[i];
      const acts = slope.some((value) => value !== 0);
      assert.is(acts, !IDLE[name]?.test(weight.name), `${weight.name} ${acts ? 'has a derivative' : 'has none'}`);
      for (let j = 0; j < slope.length; j++) {
        along += slope[j] * direction.get(weight)![j];
        length += slope[j] ** 2;
      }
    }
    const at = (h: number) =>
      inF64(total, inputs, (weight) => {
        const towards = direction.get(weight)!;
        return Float64Array.from(start.get(weight)!, (value, j) => value + h * towards[j]);
      })[0];
    const expected = (at(STEP) - at(-STEP)) / (2 * STEP);
    const error = Math.abs(along - expected) / Math.sqrt(length);
    assert.ok(error < 1e-5, `${along}, expected ${expected}, of a gradient of ${Math.sqrt(length)}: ${error}`);
  });
}

test('a derivative by an intermediate result and by an input', async () => {
  const x = input('x', [3, 4]);
  const y = square(x);
  const [byY, byX] = gradient(loss(y), [y, x]);
  const data = random.randn(12);
  const results = await run({ byY, byX }, { x: data });
  for (let i = 0; i < 12; i++) {
    assert.ok(Math.abs(results.byY[i] - (2 * data[i] ** 2) / 12) < 1e-6);
    assert.ok(Math.abs(results.byX[i] - (4 * data[i] ** 3) / 12) < 1e-5);
  }
  assert.throws(() => gradient(loss(y), [input('other', [2])]), /does not depend on other/);
  assert.throws(() => gradient(y, [x]), /more than one element/);
});

test.after(() => {
  supir.release(device);
  for (const network of [rrdb, swinir, scunetBlock, stable, control]) device.residency.releaseAll(network);
});
test.run();
