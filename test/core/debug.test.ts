/** What a program is made of, as text. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { debugParts, graphText, planText, shaderTexts } from '../../core/debug.ts';
import { UserError } from '../../core/errors.ts';
import { formatWgsl } from '../../core/format-wgsl.ts';
import { Parameter } from '../../core/module.ts';
import { input } from '../../core/tensor.ts';
import { compile } from '../../gpu/program.ts';
import { add } from '../../kernels/binary.ts';
import { fused, plan } from '../../kernels/fusion.ts';
import { linear } from '../../kernels/linear.ts';
import { affine, silu } from '../../kernels/unary.ts';
import { testDevice } from '../support/device.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

function graph() {
  const weight = new Parameter([8, 4], 'matrix');
  weight.name = 'layer.weight';
  const x = input('x', [3, 4]);
  const y = silu(linear(x, weight.tensor));
  return { y: affine(add(y, y), 2, 1) };
}

test('a graph: a line for each tensor, its inputs by name', () => {
  assert.is(
    graphText('graph', graph()),
    `graph: 4 operations
  %0 = input x -> (3, 4) f32
  %1 = weight layer.weight -> (8, 4) f16
  %2 = linear(x: %0, w: %1) {activation:none,batched:false,turned:false} -> (3, 8) f32
  %3 = unary(x: %2) {fn:silu,scale:1,shift:0,dtype:f32} -> (3, 8) f32
  %4 = binary(a: %3, b: %3) {fn:add} -> (3, 8) f32
  %5 = unary(x: %4) {fn:affine,scale:2,shift:1,dtype:f32} -> (3, 8) f32
outputs:
  y = %5`,
  );
  assert.match(
    graphText('fused graph', fused(graph())),
    /^fused graph: 3 operations\n[\s\S]*%2 = linear\(x: %0, w: %1\) \{activation:silu/,
  );
});

test('a plan: dispatches, and buffers with who lives in them', () => {
  const text = planText(plan(graph(), FACTS, LIMITS));
  assert.match(text, /^plan: 3 dispatches, 0\.000 GFLOP/);
  assert.match(
    text,
    /0 {2}linear \(3, 4\) \(8, 4\) \[layer\.weight \(8, 4\)\]\n {6}matmul f32x4 f16 silu -> x4 tiled small, \d+ threads; x: x \(3, 4\), w: weight layer\.weight, -> y: slot \d/,
  );
  assert.match(text, /slot 0, 0\.1 kB\n {6}0 to 1: linear \(3, 8\), 0\.1 kB\n {6}2 to the end: unary \(3, 8\)/);
  assert.match(text, /outputs:\n {2}y = slot 0 \(3, 8\) f32$/);
});

test('a device prints what it was asked for, every shader once', async () => {
  const device = await testDevice();
  const printed: string[] = [];
  device.debug = { parts: ['graph', 'wgsl'], print: (text) => printed.push(text) };
  try {
    const y = affine(input('x', [3]), 2, 0);
    for (let i = 0; i < 2; i++) (await compile(device, { y })).dispose();
  } finally {
    device.debug = null;
  }
  assert.equal(
    printed.map((text) => text.split('\n')[0]),
    ['graph: 1 operations', '// unary f32 -> f32 x1', 'graph: 1 operations'],
  );
  assert.equal(shaderTexts([], new Set()), []);
});

test('parts are named in a list, and others refused', () => {
  assert.equal(debugParts('graph, wgsl'), ['graph', 'wgsl']);
  for (const nothing of [undefined, '', ' ,']) assert.is(debugParts(nothing), null);
  assert.throws(
    () => debugParts('graph,all'),
    (error: unknown) => error instanceof UserError && /'all'.*graph, fused, plan, wgsl/.test(error.message),
  );
});

test('formatting gives statements lines of their own', () => {
  const text = `// name
@compute @workgroup_size(64) fn main(@builtin(x) a: u32) { if (a > 1u) { return; } else { b = 1; c = 2; }
  // why
  for (var i = 0u; i < 3u; i++) { d(); } }`;
  assert.is(
    formatWgsl(text),
    `// name

@compute @workgroup_size(64) fn main(@builtin(x) a: u32) {
  if (a > 1u) { return; }
  else {
    b = 1;
    c = 2;
  }
  // why
  for (var i = 0u; i < 3u; i++) { d(); }
}
`,
  );
});

test.run();
