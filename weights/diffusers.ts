/**
 * The layout of diffusers' folders (unet/, vae/) and of Hugging Face's text encoders (text_encoder/, text_encoder_2/), as rules between their names
 * and the single file's. Blocks are numbered through in the single file and by level in diffusers, so how many there are is taken from the names.
 */
import type { Rule } from './translate.ts';

const UNET = 'model.diffusion_model';
const VAE = 'first_stage_model';
const CLIP_L = 'conditioner.embedders.0.transformer';
const BIG_G = 'conditioner.embedders.1.model';

/** Rules below a pair of paths. */
const below = (single: string, other: string, pairs: readonly [string, string, Rule['form']?][]): Rule[] =>
  pairs.map(([s, o, form]) => ({ single: `${single}.${s}`, other: other ? `${other}.${o}` : o, ...(form && { form }) }));

/** Most levels, blocks of a level and layers of a text encoder that rules are made for; what a name numbers beyond is no part of a model. */
const [LEVELS, BLOCKS, LAYERS] = [16, 64, 256];

/** One more than the highest number below `most` that the pattern's group finds in the names; 0 if none matches. */
function countOf(names: Iterable<string>, pattern: RegExp, most: number): number {
  let count = 0;
  for (const name of names) {
    const match = pattern.exec(name);
    if (match && Number(match[1]) < most) count = Math.max(count, Number(match[1]) + 1);
  }
  return count;
}

/** SDXL's UNet. `names` of either layout tell the number of levels and blocks, and which levels have transformers. */
export function unetRules(names: readonly string[]): Rule[] {
  const downsample = /^model\.diffusion_model\.input_blocks\.(\d+)\.0\.op\.weight$/;
  const downsamples = names.flatMap((name) => Number(downsample.exec(name)?.[1] ?? [])).filter((n) => n > 0 && n <= BLOCKS);
  const levels = Math.max(countOf(names, /^down_blocks\.(\d+)\./, LEVELS), Math.min(downsamples.length + 1, LEVELS));
  const blocks = downsamples.length > 0 ? Math.min(...downsamples) - 1 : countOf(names, /^down_blocks\.\d+\.resnets\.(\d+)\./, BLOCKS);
  const withTransformer = Array.from({ length: levels }, (_, level) =>
    names.some(
      (name) =>
        name.startsWith(`down_blocks.${level}.attentions.`) || name.startsWith(`${UNET}.input_blocks.${level * (blocks + 1) + 1}.1.`),
    ),
  );
  const rules = below(UNET, '', [
    ['time_embed.0', 'time_embedding.linear_1'],
    ['time_embed.2', 'time_embedding.linear_2'],
    ['label_emb.0.0', 'add_embedding.linear_1'],
    ['label_emb.0.2', 'add_embedding.linear_2'],
    ['input_blocks.0.0', 'conv_in'],
    ['out.0', 'conv_norm_out'],
    ['out.2', 'conv_out'],
    ['middle_block.1', 'mid_block.attentions.0'],
  ]);
  rules.push(...unetResnet('middle_block.0', 'mid_block.resnets.0'), ...unetResnet('middle_block.2', 'mid_block.resnets.1'));
  for (let level = 0; level < levels; level++) {
    const up = levels - 1 - level;
    const first = level * (blocks + 1) + 1;
    for (let i = 0; i < blocks; i++) {
      rules.push(...unetResnet(`input_blocks.${first + i}.0`, `down_blocks.${level}.resnets.${i}`));
      rules.push(...below(UNET, '', [[`input_blocks.${first + i}.1`, `down_blocks.${level}.attentions.${i}`]]));
    }
    rules.push(...below(UNET, '', [[`input_blocks.${first + blocks}.0.op`, `down_blocks.${level}.downsamplers.0.conv`]]));
    for (let i = 0; i <= blocks; i++) {
      const single = `output_blocks.${up * (blocks + 1) + i}`;
      rules.push(...unetResnet(`${single}.0`, `up_blocks.${up}.resnets.${i}`));
      if (withTransformer[level]) rules.push(...below(UNET, '', [[`${single}.1`, `up_blocks.${up}.attentions.${i}`]]));
    }
    const upsample = `output_blocks.${up * (blocks + 1) + blocks}.${withTransformer[level] ? 2 : 1}.conv`;
    rules.push(...below(UNET, '', [[upsample, `up_blocks.${up}.upsamplers.0.conv`]]));
  }
  return rules;
}

function unetResnet(single: string, other: string): Rule[] {
  return below(`${UNET}.${single}`, other, [
    ['in_layers.0', 'norm1'],
    ['in_layers.2', 'conv1'],
    ['emb_layers.1', 'time_emb_proj'],
    ['out_layers.0', 'norm2'],
    ['out_layers.3', 'conv2'],
    ['skip_connection', 'conv_shortcut'],
  ]);
}

/** The autoencoder. Its attention is 1x1 convolutions in the single file and linear in diffusers, under older names before version 0.18. */
export function vaeRules(names: readonly string[]): Rule[] {
  const levels = countOf(names, /^(?:first_stage_model\.)?(?:encoder|decoder)\.(?:down|up)(?:_blocks)?\.(\d+)\./, LEVELS);
  const blocks = countOf(
    names,
    /^(?:first_stage_model\.)?(?:encoder|decoder)\.(?:down|up)(?:_blocks)?\.\d+\.(?:block|resnets)\.(\d+)\./,
    BLOCKS,
  );
  const rules = below(VAE, '', [
    ['quant_conv', 'quant_conv'],
    ['post_quant_conv', 'post_quant_conv'],
  ]);
  for (const half of ['encoder', 'decoder']) {
    const single = `${VAE}.${half}`;
    rules.push(
      ...below(single, half, [
        ['conv_in', 'conv_in'],
        ['norm_out', 'conv_norm_out'],
        ['conv_out', 'conv_out'],
      ]),
      ...vaeResnet(`${single}.mid.block_1`, `${half}.mid_block.resnets.0`),
      ...vaeResnet(`${single}.mid.block_2`, `${half}.mid_block.resnets.1`),
      ...below(`${single}.mid.attn_1`, `${half}.mid_block.attentions.0`, [
        ['norm', 'group_norm'],
        ['q', 'to_q', 'linear'],
        ['k', 'to_k', 'linear'],
        ['v', 'to_v', 'linear'],
        ['proj_out', 'to_out.0', 'linear'],
        ['q', 'query', 'linear'],
        ['k', 'key', 'linear'],
        ['v', 'value', 'linear'],
        ['proj_out', 'proj_attn', 'linear'],
      ]),
    );
    const [down, downBlocks, sample] = half === 'encoder' ? ['down', 'down_blocks', 'downsample'] : ['up', 'up_blocks', 'upsample'];
    for (let level = 0; level < levels; level++) {
      const path = `${single}.${down}.${half === 'encoder' ? level : levels - 1 - level}`;
      const other = `${half}.${downBlocks}.${level}`;
      for (let i = 0; i < blocks; i++) rules.push(...vaeResnet(`${path}.block.${i}`, `${other}.resnets.${i}`));
      rules.push(...below(path, other, [[`${sample}.conv`, `${sample}rs.0.conv`]]));
    }
  }
  return rules;
}

function vaeResnet(single: string, other: string): Rule[] {
  return below(single, other, [
    ['norm1', 'norm1'],
    ['conv1', 'conv1'],
    ['norm2', 'norm2'],
    ['conv2', 'conv2'],
    ['nin_shortcut', 'conv_shortcut'],
  ]);
}

/** CLIP-L: the single file holds Hugging Face's names. */
export const clipRules = (): Rule[] => [
  { single: `${CLIP_L}.text_model`, other: 'text_model' },
  { single: `${CLIP_L}.text_projection`, other: 'text_projection' },
];

/** OpenCLIP's text towers, bigG or ViT-H: query, key and value in one matrix in the single file, and the projection the other way round (x P there, x W^T here). */
export function openClipRules(names: readonly string[], prefix = BIG_G): Rule[] {
  const layers = Math.max(countOf(names, /encoder\.layers\.(\d+)\./, LAYERS), countOf(names, /resblocks\.(\d+)\./, LAYERS));
  const rules = below(prefix, '', [
    ['token_embedding', 'text_model.embeddings.token_embedding'],
    ['positional_embedding', 'text_model.embeddings.position_embedding.weight'],
    ['ln_final', 'text_model.final_layer_norm'],
    ['text_projection', 'text_projection.weight', 'transposed'],
  ]);
  for (let i = 0; i < layers; i++) {
    const single = `${prefix}.transformer.resblocks.${i}`;
    const other = `text_model.encoder.layers.${i}`;
    for (const leaf of ['weight', 'bias']) {
      rules.push({ single: `${single}.attn.in_proj_${leaf}`, other: ['q', 'k', 'v'].map((x) => `${other}.self_attn.${x}_proj.${leaf}`) });
    }
    rules.push(
      ...below(single, other, [
        ['attn.out_proj', 'self_attn.out_proj'],
        ['ln_1', 'layer_norm1'],
        ['ln_2', 'layer_norm2'],
        ['mlp.c_fc', 'mlp.fc1'],
        ['mlp.c_proj', 'mlp.fc2'],
      ]),
    );
  }
  return rules;
}
