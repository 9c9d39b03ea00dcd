/** What weights and the profiler need of a device: counted buffers, its queue, and what went wrong on it. Device is one. */
import type { AdapterFacts } from '../core/adapter.ts';

/** Live GPU memory, in buffers and bytes, and the most bytes that were ever live at once. */
export interface MemoryUse {
  buffers: number;
  bytes: number;
  peak: number;
}

export interface Buffers {
  readonly gpu: GPUDevice;
  readonly facts: AdapterFacts;
  readonly memory: MemoryUse;
  /** Waits for a GPU promise the way the host does it best. */
  readonly settle: <T>(promise: Promise<T>) => Promise<T>;
  /** Creates a counted buffer of at least `bytes`. Throws DeviceError above the device's maxBufferSize. */
  buffer(label: string, bytes: number, usage: number): GPUBuffer;
  /** Destroys a buffer made by `buffer`. */
  release(buffer: GPUBuffer): void;
  /** Throws what went wrong on the device since the last call. */
  check(): void;
}
