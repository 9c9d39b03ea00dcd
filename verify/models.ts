/** The configuration of a seeded model as index.json writes it (the reference program's options), as a SupirConfig. */
import { UserError } from '../core/errors.ts';
import { SUPIR_SDXL, type SupirConfig } from '../models/config.ts';

export interface ReferenceConfig {
  text: {
    clip: { vocab: number; dim: number; heads: number; layers: number; inter: number; maxpos: number; bos: number; eos: number };
    bigg: { vocab: number; dim: number; heads: number; layers: number; maxpos: number; embed: number };
  };
  outdim: number;
  unet: {
    adm_in_channels: number;
    in_channels: number;
    out_channels: number;
    model_channels: number;
    attention_resolutions: number[];
    num_res_blocks: number;
    channel_mult: number[];
    num_head_channels: number;
    transformer_depth: number[];
    context_dim: number;
  };
  dd: { z_channels: number; ch: number; ch_mult: number[]; num_res_blocks: number };
}

/** What the reference program fixes for every model: groups, ZeroSFT's hidden width, ZeroCrossAttn's head width, the latent's scale. */
const FIXED = { groups: 32, sftHidden: 128, projectHead: 64, scale: 0.13025 };

/** The configuration of the model that index.json calls `name`; one without a configuration has the published sizes. */
export function modelConfig({ index }: { index: { models: Record<string, { config?: ReferenceConfig }> } }, name: string): SupirConfig {
  const model = index.models[name];
  if (!model) throw new UserError(`index.json has no model '${name}'. It has: ${Object.keys(index.models).join(', ')}.`);
  return model.config ? referenceConfig(model.config) : SUPIR_SDXL;
}

/** A reference configuration -> ours. */
function referenceConfig({ text, outdim, unet, dd }: ReferenceConfig): SupirConfig {
  // The reference has transformers where the downsampling is in attention_resolutions, of the depth listed for that level.
  const depth = unet.transformer_depth.map((blocks, level) => (unet.attention_resolutions.includes(2 ** level) ? blocks : 0));
  const { clip, bigg } = text;
  return {
    name: 'reference',
    image_multiple: 2 ** (dd.ch_mult.length - 1 + unet.channel_mult.length - 1),
    min_size: 64,
    vae: {
      ch: dd.ch,
      ch_mult: dd.ch_mult,
      num_res_blocks: dd.num_res_blocks,
      z_channels: dd.z_channels,
      norm_groups: FIXED.groups,
      scale_factor: FIXED.scale,
    },
    unet: {
      in_channels: unet.in_channels,
      out_channels: unet.out_channels,
      model_channels: unet.model_channels,
      channel_mult: unet.channel_mult,
      num_res_blocks: unet.num_res_blocks,
      transformer_depth: depth,
      middle_depth: depth[depth.length - 1],
      num_head_channels: unet.num_head_channels,
      context_dim: unet.context_dim,
      adm_in_channels: unet.adm_in_channels,
      norm_groups: FIXED.groups,
      sft_hidden: FIXED.sftHidden,
      project_head_channels: FIXED.projectHead,
    },
    text: {
      context_length: clip.maxpos,
      size_embed_dim: outdim,
      tower1: {
        vocab: clip.vocab,
        dim: clip.dim,
        heads: clip.heads,
        layers: clip.layers,
        inter: clip.inter,
        context_length: clip.maxpos,
        layer_index: clip.layers - 1,
      },
      tower2: {
        vocab: bigg.vocab,
        dim: bigg.dim,
        heads: bigg.heads,
        layers: bigg.layers,
        inter: 4 * bigg.dim,
        context_length: bigg.maxpos,
        embed: bigg.embed,
      },
      sot: clip.bos,
      eot: clip.eos,
    },
  };
}
