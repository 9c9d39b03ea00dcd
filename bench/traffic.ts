/** Counts what passes between the processor and a device, and how often somebody waits for it. */
import { GPU_MAP_READ } from '../gpu/usage.ts';

export interface Traffic {
  /** Bytes written to the device and mapped from it. */
  up: number;
  down: number;
  /** How often results were waited for, and how often the end of submits alone. */
  readbacks: number;
  fences: number;
  submits: number;
}

const NONE: Traffic = { up: 0, down: 0, readbacks: 0, fences: 0, submits: 0 };

/** From now on the device counts into what is given back; buffers made before are not looked at when they are mapped. */
export function countTraffic(gpu: GPUDevice): { taken(): Traffic } {
  let counted = { ...NONE };
  const { queue } = gpu;
  const write = queue.writeBuffer.bind(queue);
  const submit = queue.submit.bind(queue);
  const done = queue.onSubmittedWorkDone.bind(queue);
  const create = gpu.createBuffer.bind(gpu);
  Object.defineProperty(gpu, 'queue', { value: queue });
  queue.writeBuffer = (buffer: GPUBuffer, offset: number, data: GPUAllowSharedBufferSource, from = 0, size?: number) => {
    const all = ArrayBuffer.isView(data) ? data : new Uint8Array(data);
    const unit = (all as Uint8Array).BYTES_PER_ELEMENT ?? 1;
    counted.up += size === undefined ? all.byteLength - from * unit : size * unit;
    return write(buffer, offset, data, from, size);
  };
  queue.submit = (commands) => {
    counted.submits++;
    return submit(commands);
  };
  queue.onSubmittedWorkDone = () => {
    counted.fences++;
    return done();
  };
  gpu.createBuffer = (given) => {
    const buffer = create(given);
    if ((given.usage & GPU_MAP_READ) === 0) return buffer;
    const map = buffer.mapAsync.bind(buffer);
    buffer.mapAsync = (mode, offset = 0, size = given.size - offset) => {
      counted.readbacks++;
      counted.down += size;
      return map(mode, offset, size);
    };
    return buffer;
  };
  /** What was counted since it was last taken. */
  const taken = () => {
    const before = counted;
    counted = { ...NONE };
    return before;
  };
  return { taken };
}
