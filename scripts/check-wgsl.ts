/**
 * Compiles every kernel's WGSL with both compilers there are: Tint (Dawn, here in Node) and naga (wgpu, in Deno).
 * `npx tsx scripts/check-wgsl.ts` does both; Deno runs this same file for its half. Exits 1 if any shader is refused.
 */

import type { Schedule } from '../core/adapter.ts';
import { DeviceError } from '../core/errors.ts';
import { openDevice } from '../gpu/device.ts';
import { currentHost } from '../host/current.ts';
import { allShaders } from '../kernels/catalogue.ts';
import { runDeno } from './deno.ts';

/** The compiler's complaint about one module and its entry point `main`, or null. */
async function complaint(device: GPUDevice, wgsl: string): Promise<string | null> {
  device.pushErrorScope('validation');
  let thrown: string | null = null;
  try {
    const module = device.createShaderModule({ code: wgsl });
    const { messages } = await module.getCompilationInfo();
    const error = messages.find(({ type }) => type === 'error');
    if (error) thrown = `line ${error.lineNum}: ${error.message}`;
    else await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: 'main' } });
  } catch (cause) {
    thrown = (cause as Error).message;
  }
  const caught = await device.popErrorScope();
  return thrown ?? caught?.message ?? null;
}

async function checkHere(): Promise<boolean> {
  const host = await currentHost();
  const open = async (schedule?: Schedule) => openDevice({ gpu: await host.gpu(), settle: host.settle, schedule });
  // With the features of the matrix schedule where the adapter has them.
  const device = await open('matrix').catch((error) => {
    if (error instanceof DeviceError) return open();
    throw error;
  });
  const shaders = allShaders();
  const missing = [...new Set(shaders.flatMap(({ needs }) => needs))].filter((feature) => !device.facts.features.has(feature));
  const skipped: string[] = [];
  let refused = 0;
  for (const { name, wgsl, needs } of shaders) {
    if (needs.some((feature) => missing.includes(feature))) {
      skipped.push(name);
      continue;
    }
    const problem = await host.settle(complaint(device.gpu, wgsl));
    if (problem === null) continue;
    refused++;
    console.log(`REFUSED ${name}: ${problem}`);
  }
  device.close();
  const compiler = host.name === 'deno' ? 'naga (Deno)' : 'Tint (Dawn)';
  const left = skipped.length > 0 ? `, ${skipped.length} skipped for want of ${missing.join(', ')}: ${skipped.join(', ')}` : '';
  console.log(`${compiler}: ${shaders.length - refused - skipped.length} compiled, ${refused} refused${left}`);
  return refused === 0 && skipped.length < shaders.length;
}

const here = await checkHere();
const there = 'Deno' in globalThis || runDeno(new URL(import.meta.url)) === 0;
process.exit(here && there ? 0 : 1);
