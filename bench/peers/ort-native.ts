/** onnxruntime's native CPU library, as a mark of what this processor can do without a GPU driver between: no peer, it has its own instructions. */
import { type Contender, turn } from '../contender.ts';
import { onnxModel } from './onnx.ts';
import { modelOf } from './onnx-cases.ts';

export async function ortNative(): Promise<Contender> {
  const { InferenceSession, Tensor, env } = await import('onnxruntime-node' as string);
  return {
    name: `onnxruntime-node ${env.versions.node}, native`,
    async prepare(c) {
      const { nodes, inputs, constants, channelsFirst } = modelOf(c);
      const shapes = Object.fromEntries(Object.entries(inputs).map(([name, { shape }]) => [name, shape]));
      const session = await InferenceSession.create(onnxModel(nodes, shapes, constants));
      const feeds = Object.fromEntries(Object.entries(inputs).map(([name, { data, shape }]) => [name, new Tensor('float32', data, shape)]));
      return {
        run: () => session.run(feeds),
        async result() {
          const { data } = (await session.run(feeds)).y as { data: Float32Array };
          return channelsFirst ? turn(data, ...channelsFirst) : data;
        },
      };
    },
  };
}
