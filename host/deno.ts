/** Deno: its own WebGPU (wgpu), which blocks the thread while it waits, so nothing spins and no timer fires; files through its Node API. */
import { DeviceError } from '../core/errors.ts';
import type { Host } from './host.ts';
import { nodeFiles } from './node-files.ts';

export const host: Host = {
  name: 'deno',
  async gpu() {
    if (!navigator.gpu) throw new DeviceError('This Deno has no WebGPU. Update it: `deno upgrade`.');
    return navigator.gpu;
  },
  freeMemory: () => null,
  settle: (promise) => promise,
  ...nodeFiles,
};
