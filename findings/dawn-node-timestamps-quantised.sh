#!/usr/bin/env bash
# GPU timestamps of Dawn's Node binding (npm webgpu) are multiples of 65,536 ns, as a browser's are for privacy, though no page is near: kernels of less
# than that read as 0 or 65,536 ns. The toggle `timestamp_quantization` has to be switched off by name.
#
# Seen with npm webgpu 0.6.2, mesa-vulkan-drivers 25.0.7-2~bpo12+1, 64 passes:
#   create([])                                                      every difference a multiple of 65,536 ns
#   create(['disable-dawn-features=timestamp_quantization'])        differences that are not
#
# Needs a driver with timestamp queries. Fails if the behaviour changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --no-audit --no-fund --silent webgpu@0.6.2
cat > run.mjs <<'JS'
import { create, globals } from 'webgpu';
Object.assign(globalThis, globals);
const PASSES = 64;
const gpus = []; // to be kept as long as anything of them is used
async function grain(flags) {
  const gpu = create(flags);
  gpus.push(gpu);
  const adapter = await gpu.requestAdapter();
  if (!adapter?.features.has('timestamp-query')) { console.log('no timestamp queries here'); process.exit(2); }
  const device = await adapter.requestDevice({ requiredFeatures: ['timestamp-query'] });
  const module = device.createShaderModule({ code: `@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) i: vec3<u32>) { var v = f32(i.x); for (var k = 0; k < 50; k++) { v = v * 1.0001 + 1.0; } y[i.x] = v; }` });
  const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: 'main' } });
  const buffer = device.createBuffer({ size: 4 * 65536, usage: GPUBufferUsage.STORAGE });
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] });
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 * PASSES });
  const resolved = device.createBuffer({ size: 16 * PASSES, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
  const read = device.createBuffer({ size: 16 * PASSES, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  for (let i = 0; i < PASSES; i++) {
    const pass = encoder.beginComputePass({ timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 } });
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(1024);
    pass.end();
  }
  encoder.resolveQuerySet(querySet, 0, 2 * PASSES, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, read, 0, 16 * PASSES);
  device.queue.submit([encoder.finish()]);
  await read.mapAsync(GPUMapMode.READ);
  const times = new BigUint64Array(read.getMappedRange().slice(0));
  const gcd = (a, b) => (b === 0n ? a : gcd(b, a % b));
  return Number(times.reduce((common, time) => gcd(common, time - times[0] < 0n ? times[0] - time : time - times[0]), 0n));
}
const [usual, off] = [await grain([]), await grain(['disable-dawn-features=timestamp_quantization'])];
console.log(`create([]): all differences are multiples of ${usual} ns`);
console.log(`with timestamp_quantization off: of ${off} ns`);
const asSeen = usual >= 65536 && usual % 65536 === 0 && off < 65536;
console.log(asSeen ? 'as seen' : 'CHANGED');
process.exit(asSeen ? 0 : 1);
JS
node run.mjs 2>/dev/null
