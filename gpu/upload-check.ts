/** A spot check of what was written to the GPU: some drivers drop writes, and some memory keeps them badly, without an error. A few bytes are read back. */
import { DeviceError } from '../core/errors.ts';
import type { Buffers } from './buffers.ts';
import { GPU_COPY_DST, GPU_MAP_READ } from './usage.ts';

/** At most so many places are read back, of so many bytes. */
const [PLACES, SPAN] = [32, 64];

interface Place {
  buffer: GPUBuffer;
  offset: number;
  bytes: Uint8Array;
}

export class UploadCheck {
  private readonly device: Buffers;
  /** Of so many writes one is looked at. */
  private readonly every: number;
  private readonly places: Place[] = [];
  private writes = 0;

  /** For so many writes. */
  constructor(device: Buffers, writes: number) {
    this.device = device;
    this.every = Math.ceil(writes / PLACES);
  }

  /** A write, whose end is kept if it is one of those that are looked at. Its bytes are a multiple of 4. */
  wrote(buffer: GPUBuffer, offset: number, bytes: Uint8Array): void {
    if (this.writes++ % this.every !== 0) return;
    const begin = Math.max(0, bytes.length - SPAN);
    this.places.push({ buffer, offset: offset + begin, bytes: bytes.slice(begin) });
  }

  /** Reads back. Throws DeviceError (wrong-upload) where something else is there. */
  async done(): Promise<void> {
    const { device, places } = this;
    if (places.length === 0) return;
    const read = device.buffer('weights read back', places.length * SPAN, GPU_MAP_READ | GPU_COPY_DST);
    try {
      const encoder = device.gpu.createCommandEncoder();
      for (const [i, { buffer, offset, bytes }] of places.entries())
        encoder.copyBufferToBuffer(buffer, offset, read, i * SPAN, bytes.length);
      device.gpu.queue.submit([encoder.finish()]);
      await device.settle(read.mapAsync(1));
      const there = new Uint8Array(read.getMappedRange());
      const wrong = places.find(({ bytes }, i) => bytes.some((byte, n) => there[i * SPAN + n] !== byte));
      if (!wrong) return;
      throw new DeviceError(
        `The weight '${wrong.buffer.label}' is not on the GPU as it was written there. The driver drops work, or the GPU's memory is faulty or used up.`,
        { code: 'wrong-upload' },
      );
    } finally {
      device.release(read);
    }
  }
}
