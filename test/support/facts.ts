/** An adapter on paper, for plans that never run. */
import type { AdapterFacts, MatrixUnit } from '../../core/adapter.ts';

export const FACTS: AdapterFacts = {
  vendor: '',
  architecture: '',
  device: '',
  description: 'on paper',
  software: false,
  features: new Set(),
  subgroupSizes: [0, 0],
  schedule: 'tiled',
};

export const LIMITS = { maxStorageBufferBindingSize: 2 ** 27, minUniformBufferOffsetAlignment: 256 };

/** The matrix unit of most GPUs. */
export const HALVES: MatrixUnit = { input: 'f16', m: 16, n: 16, k: 16, lanes: 32 };
