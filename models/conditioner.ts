/**
 * From token ids to what the UNet is conditioned on: text tokens (context) and one vector of pooled text and image sizes.
 * (SDXL, arXiv 2307.01952, sec. 2.1 and 2.2)
 */
import { NetworkModule } from '../core/module.ts';
import { input, type Tensor } from '../core/tensor.ts';
import { concat } from '../kernels/copy.ts';
import type { TextConfig } from './config.ts';
import { ClipTextModel, embedTokens, OpenClipTextModel } from './text-encoder.ts';
import { timestepEmbedding } from './timestep-embedding.ts';

/** SUPIR conditions every image on the same sizes: original size, crop corner and target size. */
export const SUPIR_SIZES = [1024, 1024, 0, 0, 1024, 1024];

/** Token ids of one text for each tower, padded to the context length. */
export interface TokenPair {
  tower1: number[];
  tower2: number[];
}

/** Checkpoint prefix `conditioner.` */
export class Conditioner extends NetworkModule {
  embedders: [{ transformer: ClipTextModel }, { model: OpenClipTextModel }];
  private readonly config: TextConfig;

  constructor(config: TextConfig) {
    super();
    this.config = config;
    this.embedders = [{ transformer: new ClipTextModel(config.tower1) }, { model: new OpenClipTextModel(config.tower2) }];
  }

  /**
   * The graph of one text. Inputs by name: tokens1 (1, L, dim1), tokens2 (1, L, dim2), eot (1) u32, sizes (1, 6 size_embed_dim).
   * -> context (1, L, dim1 + dim2), vector (1, embed + 6 size_embed_dim)
   */
  forward(): { context: Tensor; vector: Tensor } {
    const { context_length, size_embed_dim, tower1, tower2 } = this.config;
    const [{ transformer }, { model }] = this.embedders;
    const hidden = transformer.forward(input('tokens1', [1, context_length, tower1.dim]), tower1.layer_index);
    const { penultimate, pooled } = model.forward(input('tokens2', [1, context_length, tower2.dim]), input('eot', [1], 'u32'));
    return { context: concat([hidden, penultimate]), vector: concat([pooled, input('sizes', [1, SUPIR_SIZES.length * size_embed_dim])]) };
  }

  /** The inputs of `forward` for one text. `sizes` are six numbers in pixels: original height and width, crop top and left, target height and width. */
  async inputs({ tower1, tower2 }: TokenPair, sizes = SUPIR_SIZES): Promise<Record<string, Float32Array | Uint32Array>> {
    const [{ transformer }, { model }] = this.embedders;
    return {
      tokens1: await embedTokens(transformer.tokenTable, tower1),
      tokens2: await embedTokens(model.tokenTable, tower2),
      eot: Uint32Array.of(tower2.indexOf(this.config.eot)),
      sizes: timestepEmbedding(sizes, this.config.size_embed_dim),
    };
  }
}
