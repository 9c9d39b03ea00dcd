/** Fusion: fewer dispatches, the same results, and only where nobody else reads what would vanish. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { input, type Tensor } from '../../core/tensor.ts';
import { compile } from '../../gpu/program.ts';
import { add, mul } from '../../kernels/binary.ts';
import { conv2d } from '../../kernels/conv2d.ts';
import { concat } from '../../kernels/copy.ts';
import { plan } from '../../kernels/fusion.ts';
import { geglu } from '../../kernels/geglu.ts';
import { groupNorm } from '../../kernels/group-norm.ts';
import { linear, matmul } from '../../kernels/linear.ts';
import { reshape } from '../../kernels/reshape.ts';
import { affine, exp, gelu, quickGelu, silu } from '../../kernels/unary.ts';
import { modulate } from '../../kernels/zero-sft.ts';
import { sampler } from '../../verify/sample.ts';
import { testDevice } from '../support/device.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

const dispatches = (outputs: Record<string, Tensor>) => plan(outputs, FACTS, LIMITS).dispatches.length;

const x = input('x', [2, 5, 7, 12]);
const conv = (name = 'w') => conv2d(x, input(name, [12, 3, 3, 12]), input(`${name} bias`, [12]), { padding: 1 });
const lin = () => linear(x, input('w', [12, 12]));
const norm = () => groupNorm(x, input('gamma', [12]), input('beta', [12]), 3);

test('an activation and a residual join the product before them', () => {
  for (const product of [conv, lin]) {
    assert.is(dispatches({ y: product() }), 1);
    for (const activate of [silu, gelu, quickGelu]) assert.is(dispatches({ y: activate(product()) }), 1);
    assert.is(dispatches({ y: add(product(), x) }), 1);
    assert.is(dispatches({ y: add(x, product()) }), 1);
    assert.is(dispatches({ y: add(x, silu(product())) }), 1);
  }
  assert.is(dispatches({ y: geglu(lin()) }), 1);
  const ofImages = input('value', [2, 1, 1, 12]);
  assert.is(dispatches({ y: add(conv2d(x, input('w', [12, 3, 3, 12]), null, { padding: 1 }), ofImages) }), 1);
  assert.is(dispatches({ y: add(add(ofImages, conv()), x) }), 2, 'the bias and the value of an image are added first');
  const [a, b] = [input('a', [2, 3, 8]), input('b', [2, 5, 8])];
  assert.is(dispatches({ y: add(matmul(a, b, { transposed: true }), input('c', [2, 3, 5])) }), 1);
  assert.is(dispatches({ y: norm() }), 3);
  assert.is(dispatches({ y: silu(norm()) }), 3);
});

test('what does not fit one epilogue stays apart', () => {
  assert.is(dispatches({ y: exp(conv()) }), 2, 'not an activation');
  assert.is(dispatches({ y: affine(conv(), 2, 1) }), 2, 'a scalar');
  assert.is(dispatches({ y: mul(conv(), x) }), 2, 'a product');
  assert.is(dispatches({ y: silu(silu(conv())) }), 2, 'a second activation');
  assert.is(dispatches({ y: silu(add(conv(), x)) }), 2, 'an activation after the residual');
  assert.is(dispatches({ y: add(add(conv(), x), x) }), 2, 'a second residual');
  assert.is(dispatches({ y: add(conv(), input('row', [12])) }), 2, 'a residual that repeats');
  assert.is(dispatches({ y: silu(reshape(conv(), [70, 12])) }), 2, 'a view between');
  assert.is(dispatches({ y: add(norm(), x) }), 4, 'a residual of a norm');
  assert.is(dispatches({ y: add(silu(conv()), input('value', [2, 1, 1, 12])) }), 2, 'a value of each image after the activation');
  assert.is(dispatches({ y: add(lin(), input('value', [2, 1, 1, 12])) }), 2, 'a value of each image with a linear layer');
  assert.is(dispatches({ y: geglu(silu(lin())) }), 2, 'gates after an activation');
  assert.is(dispatches({ y: geglu(add(lin(), x)) }), 2, 'gates after a residual');
  assert.is(dispatches({ y: geglu(conv()) }), 2, 'gates of a convolution');
});

test('a result with two readers, or an output, is not absorbed', () => {
  const shared = conv();
  assert.is(dispatches({ y: silu(shared), z: exp(shared) }), 3);
  assert.is(dispatches({ y: add(shared, shared) }), 2);
  const kept = conv();
  assert.is(dispatches({ kept, y: silu(kept) }), 2);
  const both = add(conv('w'), conv('v'));
  assert.is(dispatches({ both }), 2, 'one of the two convolutions takes the other as residual');
});

const [h, skip, other] = [5, 3, 3].map((channels, i) => input(`part ${i}`, [2, 4, channels]));
const [index, eight, one] = [input('index', [2, 4, 4], 'u32'), input('wide', [2, 4, 8]), input('one', [8])];
const joint = (x: Tensor) => groupNorm(x, one, input('shift', [8]), 2);

test('a modulation joins the norm before it', () => {
  const modulated = (normal: Tensor) => modulate(normal, eight, eight, eight, 1);
  assert.is(dispatches({ y: modulated(joint(eight)) }), 3);
  assert.is(dispatches({ y: modulated(silu(joint(eight))) }), 4, 'an activation between');
  assert.is(dispatches({ y: silu(modulated(joint(eight))) }), 4, 'an activation after it');
  assert.is(dispatches({ y: modulate(eight, joint(eight), eight, eight, 1) }), 4, 'a norm of gamma');
  const kept = joint(eight);
  assert.is(dispatches({ kept, y: modulated(kept) }), 4, 'a norm that others read');
});

test('a concatenation is made only for those who need it whole', () => {
  const copies = (outputs: Record<string, Tensor>) =>
    plan(outputs, FACTS, LIMITS).dispatches.filter(({ shader }) => shader.name.startsWith('copy')).length;
  const joined = () => concat([h, skip]);
  assert.is(copies({ y: joint(joined()) }), 0);
  assert.is(copies({ y: joint(concat([reshape(h, [2, 4, 5]), skip])) }), 0, 'a view among the parts');
  const both = { y: modulate(joint(joined()), eight, eight, concat([h, other]), 1) };
  assert.is(copies(both), 0);
  // Sums over both parts, moments, then a dispatch for each.
  assert.is(dispatches(both), 5);
  const shared = joined();
  assert.is(copies({ y: modulate(joint(shared), eight, eight, shared, 1) }), 0, 'two readers that take parts');
  assert.is(copies({ y: joint(shared), z: exp(shared) }), 2, 'one that does not');
  assert.is(copies({ y: joint(shared), shared }), 2, 'an output');
  assert.is(copies({ y: modulate(joint(shared), eight, shared, eight, 1) }), 2, 'gamma is read whole');
  assert.is(copies({ y: joint(concat([eight, eight], 1)) }), 2, 'along another axis');
  assert.is(copies({ y: joint(concat([index, index])) }), 2, 'integers, which become floats');
});

test('fused and unfused results agree', async () => {
  const device = await testDevice();
  const draw = sampler(1);
  const [w, bias, v, gamma, beta] = [draw([12, 3, 3, 12], { std: 0.1 }), draw([12]), draw([12, 12]), draw([12]), draw([12])];
  const stages: Record<string, Tensor> = {};
  stages.norm = groupNorm(x, gamma.tensor, beta.tensor, 3);
  stages.active = silu(stages.norm);
  stages.conv = conv2d(stages.active, w.tensor, bias.tensor, { padding: 1 });
  stages.act = gelu(stages.conv);
  stages.sum = add(x, stages.act);
  stages.linear = linear(stages.sum, v.tensor, bias.tensor);
  stages.residual = add(stages.linear, stages.sum);
  stages.last = quickGelu(stages.residual);
  const values = { x: Float32Array.from(draw([2, 5, 7, 12]).data) };
  // With every stage an output, nothing may be absorbed.
  const [apart, fused] = [await compile(device, stages), await compile(device, { last: stages.last })];
  assert.is(apart.plan.dispatches.length - fused.plan.dispatches.length, 4);
  const [all, one] = [await apart.run(values), await fused.run(values)];
  const worst = one.last.reduce((most, value, i) => Math.max(most, Math.abs(value - all.last[i])), 0);
  assert.ok(worst <= 1e-6, `they differ by ${worst}`);
  apart.dispose();
  fused.dispose();
});

test.run();
