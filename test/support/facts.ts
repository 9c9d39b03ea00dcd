/** An adapter on paper, for plans that never run. */
import type { AdapterFacts } from '../../core/adapter.ts';

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
