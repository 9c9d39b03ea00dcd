/** Deno: its own WebGPU (wgpu), which blocks the thread while it waits, so nothing spins and no timer fires; files through its Node API. */

import type { Machine } from '../core/adapter.ts';
import { DeviceError } from '../core/errors.ts';
import { NO_NOTES } from '../core/notes.ts';
import type { Host } from './host.ts';
import { nodeFiles } from './node-files.ts';

const SYSTEMS: Readonly<Record<string, Machine['system']>> = { windows: 'windows', darwin: 'mac', linux: 'linux', android: 'android' };

export const host: Host = {
  name: 'deno',
  async gpu() {
    if (!navigator.gpu) throw new DeviceError('This Deno has no WebGPU. Update it: `deno upgrade`.');
    return navigator.gpu;
  },
  freeMemory: () => null,
  // Memory would have to be asked for with a permission.
  machine: () => ({ system: SYSTEMS[(globalThis as unknown as { Deno: { build: { os: string } } }).Deno.build.os] ?? null, memory: null }),
  notes: NO_NOTES, // they would have to be asked for with permissions
  settle: (promise) => promise,
  ...nodeFiles,
};
