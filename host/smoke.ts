/**
 * One dispatch with a known result. An adapter can answer, take commands and compute nothing (Dawn's null backend does, and so may a
 * GPU the process is not allowed to use), so every buffer starts with a value that the kernel must replace.
 */
import { GPU_COPY_DST, GPU_COPY_SRC, GPU_MAP_READ, GPU_STORAGE } from '../gpu/usage.ts';

const WGSL = `
@group(0) @binding(0) var<storage, read_write> numbers: array<f32>; // (count)
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < arrayLength(&numbers)) {
    numbers[id.x] = f32(id.x) * f32(id.x);
  }
}`;

/** The squares of 0 .. count - 1, exact below 4096, computed by the device into a buffer that held -1 throughout. */
export async function squares(device: GPUDevice, count: number, settle: <T>(promise: Promise<T>) => Promise<T>): Promise<Float32Array> {
  const size = count * 4;
  const numbers = device.createBuffer({ size, usage: GPU_STORAGE | GPU_COPY_SRC | GPU_COPY_DST });
  const read = device.createBuffer({ size, usage: GPU_MAP_READ | GPU_COPY_DST });
  try {
    device.queue.writeBuffer(numbers, 0, new Float32Array(count).fill(-1));
    const module = device.createShaderModule({ code: WGSL });
    const pipeline = await settle(device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } }));
    const entries = [{ binding: 0, resource: { buffer: numbers } }];
    const commands = device.createCommandEncoder();
    const pass = commands.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(Math.ceil(count / 64));
    pass.end();
    commands.copyBufferToBuffer(numbers, 0, read, 0, size);
    device.queue.submit([commands.finish()]);
    await settle(read.mapAsync(1)); // GPUMapMode.READ
    return new Float32Array(read.getMappedRange().slice(0));
  } finally {
    numbers.destroy();
    read.destroy();
  }
}
