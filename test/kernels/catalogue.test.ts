/** The catalogue lists every shader that kernels emit; each compiles here and stays within what every adapter offers. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatWgsl } from '../../core/format-wgsl.ts';
import { TorchRandom } from '../../core/random.ts';
import { shaderSource } from '../../core/shader.ts';
import { input, type Tensor } from '../../core/tensor.ts';
import { activationWgsl } from '../../kernels/activation.ts';
import { attention } from '../../kernels/attention.ts';
import { add, mul } from '../../kernels/binary.ts';
import { allShaders } from '../../kernels/catalogue.ts';
import { conv2d } from '../../kernels/conv2d.ts';
import { concat, pad, permute, slice, upsampleNearest } from '../../kernels/copy.ts';
import { plan } from '../../kernels/fusion.ts';
import { geglu } from '../../kernels/geglu.ts';
import { groupNorm } from '../../kernels/group-norm.ts';
import { layerNorm } from '../../kernels/layer-norm.ts';
import { linear, matmul } from '../../kernels/linear.ts';
import { max, mean } from '../../kernels/reduce.ts';
import { softmax } from '../../kernels/softmax.ts';
import { affine, cast, gelu, silu } from '../../kernels/unary.ts';
import { modulate } from '../../kernels/zero-sft.ts';
import { testDevice } from '../support/device.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

test('every shader keeps to 10 storage buffers, 256 threads, 16 KiB of workgroup memory (32 with matrix units), and features it declares', () => {
  const shaders = allShaders();
  assert.ok(shaders.length > 100, `only ${shaders.length} shaders`);
  const names = new Set(shaders.map(({ wgsl }) => wgsl));
  assert.is(names.size, shaders.length);
  const elementBytes: Record<string, number> = { f16: 2, f32: 4, u32: 4, 'vec2<f32>': 8, 'vec4<f32>': 16 };
  for (const { name, wgsl, needs } of shaders) {
    const buffers = wgsl.match(/var<storage/g)?.length ?? 0;
    assert.ok(buffers >= 1 && buffers <= 10, `${name} binds ${buffers} storage buffers`);
    const threads = Number(wgsl.match(/@workgroup_size\((\d+)\)/)?.[1]);
    assert.ok(threads >= 1 && threads <= 256, `${name} has ${threads} threads a workgroup`);
    const arrays = [...wgsl.matchAll(/var<workgroup> \w+: array<(.+), (\d+)>;/g)];
    assert.is(arrays.length, wgsl.match(/var<workgroup>/g)?.length ?? 0, `${name}: workgroup memory that this test cannot measure`);
    const shared = arrays.reduce((sum, [, type, count]) => sum + elementBytes[type] * Number(count), 0);
    // Every adapter offers 16 KiB; those with matrix units offer 32 at least, and a probe compiles there what is used.
    assert.ok(shared <= (/ matrix /.test(name) ? 32_768 : 16_384), `${name} takes ${shared} bytes of workgroup memory`);
    assert.is(/\bf16\b/.test(wgsl.replace(/^\/\/.*$/gm, '')), needs.includes('shader-f16'), `${name}: f16 declared`);
    assert.is(/\bsubgroup[A-Z_]/.test(wgsl), needs.includes('subgroups'), `${name}: subgroups declared`);
  }
});

test('every shader that this adapter can run compiles', async () => {
  const device = await testDevice();
  const runnable = allShaders().filter(({ needs }) => needs.every((feature) => device.facts.features.has(feature)));
  assert.ok(runnable.length > 0);
  for (const { name, wgsl } of runnable) {
    device.gpu.pushErrorScope('validation');
    device.gpu.createShaderModule({ label: name, code: wgsl });
    const error = await device.settle(device.gpu.popErrorScope());
    assert.is(error, null, `${name}: ${error?.message}`);
  }
});

/**
 * The catalogue has every way to read and multiply and every epilogue, not all their pairs: a shader with an epilogue is the rest, without the
 * name and the numbers of its bindings, and the epilogue.
 */
function parts(wgsl: string): string[] {
  const begin = wgsl.indexOf('fn finish(');
  if (begin < 0) return [wgsl];
  const end = wgsl.indexOf('\n}', wgsl.indexOf('fn finish4(')) + 2;
  const ends = /^@group.* (bias|residual|y): .*\n(fn \1_.*\n)?/gm;
  const plain = (text: string) => text.replace(/^\/\/.*/, '').replace(/@binding\(\d+\)/g, '');
  const rest = wgsl.slice(0, begin).replace(activationWgsl('f32'), '').replace(activationWgsl('vec4<f32>'), '') + wgsl.slice(end);
  return [plain(rest.replace(ends, '')).replace(/\n+/g, '\n'), plain((wgsl.match(ends) ?? []).join('') + wgsl.slice(begin, end))];
}

test('kernels at random sizes and types emit only shaders of the catalogue', () => {
  const random = new TorchRandom(7);
  const below = (n: number) => random.uint32() % n;
  const known = new Set(allShaders().flatMap(({ wgsl }) => parts(wgsl)));
  let inputs = 0;
  const of = (...shape: number[]) => input(`${inputs++}`, shape, below(2) ? 'f16' : 'f32');
  const f32 = (...shape: number[]) => input(`${inputs++}`, shape);
  for (let round = 0; round < 400; round++) {
    const [n, h, w, c, o, k] = [1 + below(3), 1 + below(6), 1 + below(6), 1 + below(24), 1 + below(24), 1 + below(3)];
    const x = of(n, h, w, c);
    const [width, heads] = [1 + below(130), 1 + below(3)];
    const tensors: Tensor[] = [
      gelu(x),
      affine(x, 2, 1),
      cast(x, 'f16'),
      mul(x, of(c)),
      add(x, of(n, 1, w, 1)),
      permute(x, [3, 1, 0, 2]),
      slice(x, 3, 0, 1 + below(c)),
      pad(x, [
        [0, 0],
        [1, 0],
        [0, 2],
        [0, below(5)],
      ]),
      upsampleNearest(x, 2),
      concat([x, of(n, h, w, o)]),
      softmax(x),
      mean(x),
      max(x),
      layerNorm(x, f32(c), f32(c)),
      groupNorm(x, f32(c), f32(c), c % 3 ? (c % 2 ? 1 : 2) : 3),
      modulate(
        groupNorm(concat([x, of(n, h, w, c)]), f32(2 * c), f32(2 * c), below(2) ? c : 2),
        f32(n, h, w, 2 * c),
        f32(n, h, w, 2 * c),
        below(2) ? f32(n, h, w, 2 * c) : concat([of(n, h, w, c), of(n, h, w, c)]),
        1,
      ),
      geglu(of(n, 2 * c)),
      modulate(f32(n, c), f32(n, c), f32(n, c), f32(n, c), 1),
      add(silu(conv2d(x, of(o, k, k, c), f32(o), { padding: 1 })), of(n, h + 3 - k, w + 3 - k, o)),
      gelu(linear(x, of(o, c))),
      geglu(linear(x, of(2 * o, c), f32(2 * o))),
      add(geglu(linear(x, of(2 * o, c))), of(n, h, w, o)),
      add(linear(x, of(o, c), f32(o)), of(n, h, w, o)),
      matmul(of(n, h, c), of(n, c, o)),
      attention(of(n, h, heads * width), of(n, w, heads * width), of(n, w, heads * width), heads),
    ];
    for (const tensor of tensors)
      for (const { shader, label } of plan({ tensor }, FACTS, LIMITS).dispatches)
        for (const part of parts(shaderSource(shader))) assert.ok(known.has(part), `${shader.name} of ${label}`);
  }
});

test('formatting moves blanks alone', () => {
  const dense = (wgsl: string) => wgsl.replace(/\s+/g, '');
  for (const { name, wgsl } of allShaders()) assert.is(dense(formatWgsl(wgsl)), dense(wgsl), name);
});

test.run();
