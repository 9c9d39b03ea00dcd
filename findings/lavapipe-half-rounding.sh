#!/usr/bin/env bash
# Mesa's lavapipe leaves out the rounding to half in `f32(f16(x))` and in `unpack2x16float(pack2x16float(x))` when both are in one shader; only
# `quantizeToF16(x)` rounds.
#
# Seen with npm webgpu 0.6.2 (Dawn) on mesa-vulkan-drivers 25.0.7-2~bpo12+1 (Debian 12 backports), x = 0.1 and 1.0009:
#   f32(f16(x))                         0.10000000149011612   1.000899...  (not rounded)
#   unpack2x16float(pack2x16float(x))   0.10000000149011612   1.000899...  (not rounded)
#   quantizeToF16(x)                    0.0999755859375       1.0009765625 (rounded)
# Why it matters: a test that emulates half arithmetic by converting there and back tests nothing on this driver.
#
# Needs a machine whose only Vulkan driver is lavapipe, or VK_DRIVER_FILES that points at it. Fails if the behaviour changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --no-audit --no-fund --silent webgpu@0.6.2
cat > run.mjs <<'JS'
import { create, globals } from 'webgpu';
Object.assign(globalThis, globals);
const gpu = create([]);
const adapter = await gpu.requestAdapter();
if (!adapter) { console.log('no adapter: this needs lavapipe'); process.exit(2); }
console.log('adapter:', adapter.info.description);
if (!/llvmpipe/.test(adapter.info.description)) { console.log('this is not lavapipe'); process.exit(2); }
const device = await adapter.requestDevice({ requiredFeatures: ['shader-f16'] });
const x = Float32Array.of(0.1, 1.0009);
async function run(body) {
  const module = device.createShaderModule({ code: `enable f16;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(2) fn main(@builtin(local_invocation_index) i: u32) { y[i] = ${body}; }` });
  const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: 'main' } });
  const buffers = [x, new Float32Array(2)].map((data) => {
    const buffer = device.createBuffer({ size: 8, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC });
    device.queue.writeBuffer(buffer, 0, data);
    return buffer;
  });
  const read = device.createBuffer({ size: 8, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })) }));
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(buffers[1], 0, read, 0, 8);
  device.queue.submit([encoder.finish()]);
  await read.mapAsync(GPUMapMode.READ);
  return [...new Float32Array(read.getMappedRange().slice(0))];
}
const halves = [0.0999755859375, 1.0009765625];
const same = (a, b) => a.every((value, i) => value === b[i]);
const results = {
  'f32(f16(x))': await run('f32(f16(x[i]))'),
  'unpack(pack(x))': await run('unpack2x16float(pack2x16float(vec2<f32>(x[i], 0.0))).x'),
  'quantizeToF16(x)': await run('quantizeToF16(x[i])'),
};
for (const [name, values] of Object.entries(results)) console.log(name.padEnd(18), values.join('  '), same(values, halves) ? 'rounded' : 'NOT rounded');
const asSeen = !same(results['f32(f16(x))'], halves) && !same(results['unpack(pack(x))'], halves) && same(results['quantizeToF16(x)'], halves);
console.log(asSeen ? 'as seen' : 'CHANGED');
process.exit(asSeen ? 0 : 1);
JS
node run.mjs 2>/dev/null
