/** SUPIR small enough to train in a test: every kind of layer, random weights. */
import { parameters } from '../../core/module.ts';
import { TorchRandom } from '../../core/random.ts';
import { sizeOf } from '../../core/tensor.ts';
import type { SupirConfig } from '../../models/config.ts';
import { Supir } from '../../models/supir.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { Checkpoint } from '../../weights/checkpoint.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';

const tower = { vocab: 20, dim: 8, heads: 2, layers: 2, inter: 16, context_length: 6 };

export const TINY: SupirConfig = {
  name: 'tiny',
  image_multiple: 8,
  min_size: 16,
  vae: { ch: 8, ch_mult: [1, 1], num_res_blocks: 1, z_channels: 4, norm_groups: 4, scale_factor: 0.5 },
  unet: {
    in_channels: 4,
    out_channels: 4,
    model_channels: 8,
    channel_mult: [1, 2],
    num_res_blocks: 1,
    transformer_depth: [0, 1],
    middle_depth: 1,
    num_head_channels: 8,
    context_dim: 16,
    adm_in_channels: 8 + 6 * 4,
    norm_groups: 4,
    sft_hidden: 8,
    project_head_channels: 8,
  },
  text: {
    context_length: 6,
    size_embed_dim: 4,
    tower1: { ...tower, layer_index: 1 },
    tower2: { ...tower, embed: 8 },
    sot: 18,
    eot: 19,
  },
};

export async function tinySupir(dtype: 'f16' | 'f32' = 'f32'): Promise<Supir> {
  const supir = new Supir(TINY);
  const random = new TorchRandom(1);
  const tensors = [...parameters(supir)].map(([path, { shape }]) => {
    const fanIn = shape.length > 1 ? sizeOf(shape.slice(1)) : 1;
    const isNorm = shape.length === 1 && path.endsWith('weight');
    const data = random
      .randn(sizeOf(shape))
      .map((value) => (isNorm ? 1 + 0.1 * value : shape.length === 1 ? 0.1 * value : value / Math.sqrt(fanIn)));
    return [path, { dtype: 'F32' as const, shape, data }] as const;
  });
  const file = await openSafetensors(bytesSource('tiny.safetensors', encodeSafetensors(tensors)));
  return supir.attach(new Checkpoint([file]), { dtype });
}
