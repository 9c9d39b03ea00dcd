/**
 * The keys of a case's configuration: each is read by its operation, or says again what the inputs, the weights or the operation itself settle. Any other
 * would be settings that the reference program had and this one does not, so that a difference, or none, would mean nothing.
 */
import type { CaseEntry } from './golden.ts';

/** What stands for any value: inputs and weights tell it. */
const TOLD = null;

/** By operation, keys that need not be read, with the values that they may have. */
const SETTLED: Readonly<Record<string, Readonly<Record<string, readonly unknown[] | typeof TOLD>>>> = {
  clip_l: { heads: TOLD },
  bigg: { heads: TOLD },
  conditioner: { outdim: TOLD },
  zero_cross_attn: { heads: TOLD },
  sampler: { B: TOLD, H: TOLD, W: TOLD, control_start: TOLD, restore_cfg: TOLD, restore_cfg_s_tmin: TOLD, s_churn: TOLD },
  batchify_sample: { H: TOLD, W: TOLD, cfg_scale_start: TOLD, control_scale_start: TOLD },
  lora_layer: { rank: TOLD, layer: TOLD },
  dora_linear: { rank: TOLD, axis: TOLD, layer: TOLD },
  grad_block: {
    ...{
      heads: TOLD,
      inner: TOLD,
      scale: TOLD,
      context_dim: TOLD,
      approximate: ['none'],
      axis: [-1],
      use_linear: [true],
      bias: [true, false],
    },
    ...{ depth: TOLD, groups: [32], eps: [1e-5, 1e-6], dim: TOLD, channels: TOLD, padding: TOLD, stride: TOLD },
  },
  gaussian_blur: { kernel: TOLD },
  psnr: { data_range: [255] },
  ssim: {
    ...{ data_range: [255], sigma: [1.5], truncate: [3.5], window: [7, 11], K1: [0.01], K2: [0.03] },
    use_sample_covariance: [true, false],
  },
  lora_train: { optimizer: ['AdamW'], targets: TOLD },
  // DiffBIR's.
  swin_block: { heads: TOLD, h: TOLD, w: TOLD },
  open_clip_text: { heads: TOLD, layer: ['penultimate'] },
  diffbir_vae_encode: { seed: TOLD },
  diffbir_sampler: { seed: TOLD, version: TOLD },
  scunet_block: { head_dim: [32], window: [8] },
  pil_resize: { upscale: TOLD },
  diffbir_restore: {
    ...{ task: TOLD, seed: TOLD, version: TOLD, pos_tokens: TOLD, neg_tokens: TOLD },
    ...{ vae_encoder_tile_size: TOLD, vae_decoder_tile_size: TOLD }, // of tiles that are not asked for
  },
};

/** A case whose configuration notes what is read of it. */
export class WatchedCase {
  readonly entry: CaseEntry;
  private readonly unread: Map<string, unknown>;

  constructor(entry: CaseEntry) {
    const { config } = entry;
    const isObject = typeof config === 'object' && config !== null;
    this.unread = new Map(isObject ? Object.entries(config) : []);
    this.entry = isObject ? { ...entry, config: this.watched(config) } : entry;
  }

  /** Why the operation's results say nothing about the case: the keys that it did not read; undefined if it read all that matter. */
  complaint(): string | undefined {
    const settled = SETTLED[this.entry.op] ?? {};
    const left = [...this.unread].filter(([key, value]) => {
      const values = Object.hasOwn(settled, key) ? settled[key] : undefined;
      return values === undefined || (values !== TOLD && !values.includes(value));
    });
    if (left.length === 0) return undefined;
    const names = left.map(([key, value]) => `'${key}' (${JSON.stringify(value).slice(0, 60)})`);
    return `the operation ${this.entry.op} knows no setting ${names.join(', ')}, so its results would mean nothing`;
  }

  private watched(config: object): object {
    return new Proxy(config, {
      get: (target, key) => {
        this.unread.delete(String(key));
        return Reflect.get(target, key);
      },
    });
  }
}
