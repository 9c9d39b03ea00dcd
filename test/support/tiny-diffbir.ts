/** DiffBIR of a test's size as files: base, IRControlNet and a cleaner with random weights, the demo's tokenizer, and a config.json with the sizes. */
import { parameters } from '../../core/module.ts';
import { TorchRandom } from '../../core/random.ts';
import { sizeOf } from '../../core/tensor.ts';
import { type CleanerConfig, cleanerOf, DiffBir } from '../../models/diffbir.ts';
import type { StableDiffusionConfig } from '../../models/stable-diffusion.ts';
import { attach, type WeightDType } from '../../weights/attach.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { Checkpoint } from '../../weights/checkpoint.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { projectFile } from './fixtures.ts';

export const TINY_RRDB: CleanerConfig = { kind: 'rrdb', nf: 8, nb: 2, gc: 4, scale: 4 };
export const TINY_SWINIR: CleanerConfig = {
  ...{ kind: 'swinir', embed_dim: 12, depths: [2], num_heads: [2], window_size: 8, mlp_ratio: 2, unshuffle_scale: 8 },
};
export const TINY_SCUNET: CleanerConfig = { kind: 'scunet', dim: 64, config: [1, 1, 1, 1, 1, 1, 1] };

type Entry = [string, { dtype: 'F32'; shape: number[]; data: Float32Array }];

/** Random weights of a network under the names of its file. */
export function randomWeights(root: object, seed = 3): Entry[] {
  const random = new TorchRandom(seed);
  return [...parameters(root)].map(([name, { shape }]) => {
    const scale = shape.length > 1 ? 1 / Math.sqrt(sizeOf(shape.slice(1))) : 0.1;
    const isNorm = shape.length === 1 && name.endsWith('weight');
    return [name, { dtype: 'F32', shape: [...shape], data: random.randn(sizeOf(shape)).map((value) => value * scale + (isNorm ? 1 : 0)) }];
  });
}

/** The network with random weights attached. */
export async function withRandomWeights<Network extends object>(network: Network, dtype: WeightDType = 'f16', seed = 3): Promise<Network> {
  const file = await openSafetensors(bytesSource('weights.safetensors', encodeSafetensors(randomWeights(network, seed))));
  attach(network, '', new Checkpoint([file]), { dtype });
  return network;
}

export async function tinyBase(): Promise<StableDiffusionConfig> {
  const { text } = JSON.parse(new TextDecoder().decode(await projectFile('demo/config.json')));
  const { vocab, sot, eot } = { ...text, ...text.tower2 };
  return {
    vae: { ch: 8, ch_mult: [1, 1, 1, 1], num_res_blocks: 1, z_channels: 4, norm_groups: 4, scale_factor: 0.2 },
    unet: {
      ...{ in_channels: 4, out_channels: 4, model_channels: 8, channel_mult: [1, 1, 2, 2], num_res_blocks: 1, adm_in_channels: 0 },
      ...{ transformer_depth: [1, 0, 1, 0], middle_depth: 1, num_head_channels: 8, context_dim: 8, norm_groups: 4 },
    },
    text: { vocab, dim: 8, heads: 2, layers: 2, inter: 16, context_length: 77, sot, eot },
  };
}

/** The files by name. */
export async function tinyDiffBirFiles(
  cleaner: CleanerConfig,
  parameterization: 'eps' | 'v' = 'eps',
): Promise<Map<string, Uint8Array<ArrayBuffer>>> {
  const base = await tinyBase();
  const networks = new DiffBir(base, cleanerOf(cleaner));
  const config = { method: 'DiffBIR', name: 'tiny DiffBIR', base, parameterization, files: { tokenizer: 'tokenizer.json' } };
  const stray: Entry = ['alphas_cumprod', { dtype: 'F32', shape: [2], data: Float32Array.of(1, 2) }];
  return new Map([
    ['config.json', new TextEncoder().encode(JSON.stringify(config))],
    ['tokenizer.json', Uint8Array.from(await projectFile('demo/tokenizer.json'))],
    ['base.safetensors', encodeSafetensors([...randomWeights(networks.base, 3), stray])],
    ['control.safetensors', encodeSafetensors(randomWeights(networks.control, 4))],
    ['cleaner.safetensors', encodeSafetensors(randomWeights(networks.cleaner!, 5))],
  ]);
}
