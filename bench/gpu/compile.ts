/** The child process of driver.ts, inside layer.c: `compile.ts <modules.json> <report>` makes a pipeline of every WGSL module. */
import { appendFileSync, readFileSync } from 'node:fs';
import { create } from 'webgpu';
import type { GpuModule } from './driver.ts';

const [source, report] = process.argv.slice(2);
const modules: GpuModule[] = JSON.parse(readFileSync(source, 'utf8'));
const gpu = create(['enable-dawn-features=allow_unsafe_apis']);
const adapter = await gpu.requestAdapter();
if (!adapter) throw new Error('Dawn offers no adapter: does this RADV know the GPU?');
const features = ['shader-f16', 'subgroups', 'subgroup-size-control', 'chromium-experimental-subgroup-matrix'].filter((name) =>
  adapter.features.has(name),
);
const { maxComputeWorkgroupStorageSize, maxStorageBuffersPerShaderStage } = adapter.limits;
const device = await adapter.requestDevice({
  requiredFeatures: features as GPUFeatureName[],
  requiredLimits: { maxComputeWorkgroupStorageSize, maxStorageBuffersPerShaderStage },
});
for (const [i, { wgsl, needs }] of modules.entries()) {
  appendFileSync(report, `module ${i}\n`);
  const lacking = needs.filter((name) => !features.includes(name));
  if (lacking.length > 0) {
    appendFileSync(report, `lacking ${lacking.join(',')}\n`);
    continue;
  }
  device.pushErrorScope('validation');
  device.createComputePipeline({ layout: 'auto', compute: { module: device.createShaderModule({ code: wgsl }), entryPoint: 'main' } });
  const error = await device.popErrorScope();
  if (error) appendFileSync(report, `error ${JSON.stringify(error.message)}\n`);
}
process.exit(0);
