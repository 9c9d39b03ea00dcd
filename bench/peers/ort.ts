/** onnxruntime-web with its WebGPU execution provider; inputs and results stay on the GPU. */
import { type Contender, turn } from '../contender.ts';
import { onnxModel } from './onnx.ts';
import { modelOf } from './onnx-cases.ts';

/** onnxruntime's memory is shared between threads, and Dawn's Node binding takes no shared memory: hand it copies. */
function acceptSharedMemory(): void {
  const write = GPUQueue.prototype.writeBuffer as (this: GPUQueue, ...args: unknown[]) => undefined;
  GPUQueue.prototype.writeBuffer = function (buffer: GPUBuffer, offset: number, data: GPUAllowSharedBufferSource, ...range: unknown[]) {
    const shared = ArrayBuffer.isView(data) && data.buffer instanceof SharedArrayBuffer;
    return write.call(this, buffer, offset, shared ? Uint8Array.from(data as Uint8Array) : data, ...range);
  };
}

export async function ort(): Promise<Contender> {
  acceptSharedMemory();
  const library = await import('onnxruntime-web/webgpu' as string);
  library.env.wasm.numThreads = 1;
  library.env.logLevel = 'error';
  return {
    name: `onnxruntime-web ${library.env.versions.web}`,
    async prepare(c) {
      const { nodes, inputs, constants, channelsFirst } = modelOf(c);
      const shapes = Object.fromEntries(Object.entries(inputs).map(([name, { shape }]) => [name, shape]));
      const session = await library.InferenceSession.create(onnxModel(nodes, shapes, constants), {
        executionProviders: ['webgpu'],
        preferredOutputLocation: 'gpu-buffer',
      });
      const device: GPUDevice = await library.env.webgpu.device;
      const feeds = Object.fromEntries(
        Object.entries(inputs).map(([name, { data, shape }]) => {
          const gpuBuffer = device.createBuffer({ size: Math.ceil(data.byteLength / 16) * 16, usage: 0x80 | 0x8 | 0x4 });
          device.queue.writeBuffer(gpuBuffer, 0, data as Float32Array<ArrayBuffer>);
          return [name, library.Tensor.fromGpuBuffer(gpuBuffer, { dataType: 'float32', dims: shape })];
        }),
      );
      return {
        async run() {
          const { y } = await session.run(feeds);
          await device.queue.onSubmittedWorkDone();
          y.dispose();
        },
        async result() {
          const { y } = await session.run(feeds);
          const data: Float32Array = await y.getData(true);
          return channelsFirst ? turn(data, ...channelsFirst) : data;
        },
      };
    },
  };
}
