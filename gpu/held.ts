/**
 * Values on the device that outlive the programs which write and read them: dense bytes in one or more buffers, none larger than a program may
 * bind. Programs take them in and give them out by `Transfers`, without a way through the host.
 */
import { DeviceError } from '../core/errors.ts';
import type { Device } from './device.ts';

import type { Transfer } from './program.ts';
import { GPU_COPY_DST, GPU_COPY_SRC, GPU_MAP_READ } from './usage.ts';

/** Bytes of a buffer at most, also where the adapter would allow more: smaller ones are found more easily. */
const LARGEST = 2 ** 27;

type Limits = { maxBufferSize: number };

const largestOf = ({ maxBufferSize }: Limits): number => Math.floor(Math.min(LARGEST, maxBufferSize) / 16) * 16;

/** What `bytes` take on the device: buffers are multiples of 16 bytes. */
export function heldBytes(bytes: number): number {
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

export class Held {
  readonly bytes: number;
  private readonly device: Device;
  private readonly buffers: GPUBuffer[] = [];
  private readonly largest: number;

  /** To be made within `device.guard`, which tells where memory does not suffice. */
  constructor(device: Device, label: string, bytes: number) {
    this.device = device;
    this.bytes = bytes;
    this.largest = largestOf(device.gpu.limits);
    for (let at = 0; at < bytes; at += this.largest)
      this.buffers.push(device.buffer(label, Math.min(this.largest, bytes - at), GPU_COPY_SRC | GPU_COPY_DST));
  }

  /** Between `bytes` from `offset` on and a program's input or result `name` from `at` on. Multiples of 4. */
  transfers(name: string, at: number, offset: number, bytes: number): Transfer[] {
    return [...this.parts(offset, bytes)].map((part) => ({
      name,
      at: at + part.done,
      bytes: part.bytes,
      buffer: part.buffer,
      offset: part.offset,
    }));
  }

  /** Writes values from byte `offset` on. */
  write(offset: number, values: Float32Array): void {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength) as Uint8Array<ArrayBuffer>;
    for (const part of this.parts(offset, bytes.length))
      this.device.gpu.queue.writeBuffer(part.buffer, part.offset, bytes.subarray(part.done, part.done + part.bytes));
  }

  /** Reads `into.length` values from byte `offset` on, through a buffer of as many bytes. */
  async read(offset: number, into: Float32Array): Promise<void> {
    const { device } = this;
    const staging = await device.guard('reading results back', () =>
      device.buffer('results', into.byteLength, GPU_MAP_READ | GPU_COPY_DST),
    );
    try {
      const encoder = device.gpu.createCommandEncoder();
      for (const part of this.parts(offset, into.byteLength))
        encoder.copyBufferToBuffer(part.buffer, part.offset, staging, part.done, part.bytes);
      device.gpu.queue.submit([encoder.finish()]);
      await device.settle(staging.mapAsync(1));
      into.set(new Float32Array(staging.getMappedRange(), 0, into.length));
    } catch (error) {
      device.check();
      throw new DeviceError(`Reading results back failed: ${(error as Error).message}`);
    } finally {
      device.release(staging);
    }
    device.check();
  }

  /** What it takes on the device. */
  get allocated(): number {
    return heldBytes(this.bytes);
  }

  /** The whole of it, as `transfers`. */
  all(name: string): Transfer[] {
    return this.transfers(name, 0, 0, this.bytes);
  }

  release(): void {
    for (const buffer of this.buffers.splice(0)) this.device.release(buffer);
  }

  private *parts(offset: number, bytes: number): Generator<{ buffer: GPUBuffer; offset: number; done: number; bytes: number }> {
    for (let done = 0; done < bytes; ) {
      const [index, from] = [Math.floor((offset + done) / this.largest), (offset + done) % this.largest];
      const length = Math.min(bytes - done, this.largest - from);
      yield { buffer: this.buffers[index], offset: from, done, bytes: length };
      done += length;
    }
  }
}
