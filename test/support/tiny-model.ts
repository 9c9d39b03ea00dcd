/** A folder of files that make a model: SUPIR of the tests' size under the published names, with the demo's tokenizer. */
import { parameters } from '../../core/module.ts';
import { TorchRandom } from '../../core/random.ts';
import { sizeOf } from '../../core/tensor.ts';
import { Supir } from '../../models/supir.ts';
import { COMPONENTS, componentOf } from '../../weights/layouts.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { projectFile } from './fixtures.ts';
import { TINY } from './tiny-supir.ts';

/** The files by name. */
export async function tinyModelFiles(): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const demo = JSON.parse(new TextDecoder().decode(await projectFile('demo/config.json')));
  const { vocab, sot, eot, context_length } = { ...demo.text.tower2, context_length: demo.text.context_length };
  const tower = { vocab, context_length };
  const { text } = TINY;
  const config = {
    ...TINY,
    text: { ...text, context_length, sot, eot, tower1: { ...text.tower1, ...tower }, tower2: { ...text.tower2, ...tower } },
  };
  const random = new TorchRandom(7);
  type Entry = readonly [string, { dtype: 'F32'; shape: number[]; data: Float32Array }];
  const parts: Record<'SDXL' | 'SUPIR', Entry[]> = { SDXL: [], SUPIR: [] };
  for (const [name, { shape }] of parameters(new Supir(config))) {
    const scale = shape.length > 1 ? 1 / Math.sqrt(sizeOf(shape.slice(1))) : 0.1;
    const data = random.randn(sizeOf(shape)).map((value) => value * scale + (shape.length === 1 && name.endsWith('weight') ? 1 : 0));
    parts[COMPONENTS[componentOf(name)!].origin].push([name, { dtype: 'F32', shape: [...shape], data }]);
  }
  const json = (value: object) => new TextEncoder().encode(JSON.stringify(value));
  const files = { sdxl: 'tiny-sdxl.safetensors', supir: 'tiny-supir.safetensors', tokenizer: 'tokenizer.json' };
  return new Map([
    ['config.json', json({ ...config, files })],
    ['tokenizer.json', Uint8Array.from(await projectFile('demo/tokenizer.json'))],
    [files.sdxl, encodeSafetensors(parts.SDXL)],
    [files.supir, encodeSafetensors(parts.SUPIR)],
  ]);
}
