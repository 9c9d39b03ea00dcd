/**
 * SDXL's two text towers. Both are causal transformers over 77 tokens; they differ in names, activation and in which state is used.
 * (CLIP, arXiv 2103.00020; OpenCLIP; SDXL, arXiv 2307.01952)
 * Token embeddings are looked up on the host (`embedTokens`), because the tables exceed what one binding may hold.
 */
import { Module, NetworkModule, Parameter } from '../core/module.ts';
import type { Tensor } from '../core/tensor.ts';
import { attention } from '../kernels/attention.ts';
import { add } from '../kernels/binary.ts';
import { slice } from '../kernels/copy.ts';
import { gatherRows } from '../kernels/gather-rows.ts';
import { linear as project } from '../kernels/linear.ts';
import { reshape } from '../kernels/reshape.ts';
import { gelu, quickGelu } from '../kernels/unary.ts';
import type { TowerConfig } from './config.ts';
import { type Layer, LayerNorm, Linear } from './layers.ts';

/** Rows of an embedding table for token ids. -> tokens.length x dim values */
export function embedTokens(table: Parameter, tokens: number[]): Promise<Float32Array> {
  return table.source!.readRows(tokens);
}

class ClipAttention extends Module {
  private readonly heads: number;
  q_proj: Layer;
  k_proj: Layer;
  v_proj: Layer;
  out_proj: Layer;

  constructor(dim: number, heads: number) {
    super();
    this.heads = heads;
    this.q_proj = new Linear(dim, dim);
    this.k_proj = new Linear(dim, dim);
    this.v_proj = new Linear(dim, dim);
    this.out_proj = new Linear(dim, dim);
  }

  forward(x: Tensor): Tensor {
    return this.out_proj.forward(
      attention(this.q_proj.forward(x), this.k_proj.forward(x), this.v_proj.forward(x), this.heads, { causal: true }),
    );
  }
}

class ClipMlp extends Module {
  fc1: Layer;
  fc2: Layer;

  constructor(dim: number, inter: number) {
    super();
    this.fc1 = new Linear(dim, inter);
    this.fc2 = new Linear(inter, dim);
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(quickGelu(this.fc1.forward(x)));
  }
}

class ClipLayer extends Module {
  self_attn: ClipAttention;
  layer_norm1: Layer;
  mlp: ClipMlp;
  layer_norm2: Layer;

  constructor({ dim, heads, inter }: TowerConfig) {
    super();
    this.self_attn = new ClipAttention(dim, heads);
    this.layer_norm1 = new LayerNorm(dim);
    this.mlp = new ClipMlp(dim, inter);
    this.layer_norm2 = new LayerNorm(dim);
  }

  forward(x: Tensor): Tensor {
    const h = add(x, this.self_attn.forward(this.layer_norm1.forward(x)));
    return add(h, this.mlp.forward(this.layer_norm2.forward(h)));
  }
}

/** CLIP-L in Hugging Face's names. Checkpoint prefix `conditioner.embedders.0.transformer.` */
export class ClipTextModel extends NetworkModule {
  text_model: {
    embeddings: { token_embedding: { weight: Parameter }; position_embedding: { weight: Parameter } };
    encoder: { layers: ClipLayer[] };
    final_layer_norm: Layer;
  };

  constructor(config: TowerConfig) {
    super();
    this.text_model = {
      embeddings: {
        token_embedding: { weight: new Parameter([config.vocab, config.dim], 'host') },
        position_embedding: { weight: new Parameter([config.context_length, config.dim], 'vector') },
      },
      encoder: { layers: Array.from({ length: config.layers }, () => new ClipLayer(config)) },
      final_layer_norm: new LayerNorm(config.dim),
    };
  }

  get tokenTable(): Parameter {
    return this.text_model.embeddings.token_embedding.weight;
  }

  /** tokens (N, L, dim) embedded -> (N, L, dim), the input of layer `layerIndex`, without the final norm. */
  forward(tokens: Tensor, layerIndex: number): Tensor {
    const { embeddings, encoder } = this.text_model;
    const x = add(tokens, embeddings.position_embedding.weight.tensor);
    return encoder.layers.slice(0, layerIndex).reduce((h, layer) => layer.forward(h), x);
  }
}

class OpenClipAttention extends Module {
  private readonly heads: number;
  private readonly dim: number;
  in_proj_weight: Parameter;
  in_proj_bias: Parameter;
  out_proj: Layer;

  constructor(dim: number, heads: number) {
    super();
    this.heads = heads;
    this.dim = dim;
    this.in_proj_weight = new Parameter([3 * dim, dim], 'matrix');
    this.in_proj_bias = new Parameter([3 * dim], 'vector');
    this.out_proj = new Linear(dim, dim);
  }

  forward(x: Tensor): Tensor {
    const qkv = project(x, this.in_proj_weight.tensor, this.in_proj_bias.tensor);
    const [q, k, v] = [0, 1, 2].map((i) => slice(qkv, -1, i * this.dim, (i + 1) * this.dim));
    return this.out_proj.forward(attention(q, k, v, this.heads, { causal: true }));
  }
}

class OpenClipMlp extends Module {
  c_fc: Layer;
  c_proj: Layer;

  constructor(dim: number, inter: number) {
    super();
    this.c_fc = new Linear(dim, inter);
    this.c_proj = new Linear(inter, dim);
  }

  forward(x: Tensor): Tensor {
    return this.c_proj.forward(gelu(this.c_fc.forward(x)));
  }
}

class ResidualAttentionBlock extends Module {
  ln_1: Layer;
  attn: OpenClipAttention;
  ln_2: Layer;
  mlp: OpenClipMlp;

  constructor({ dim, heads, inter }: TowerConfig) {
    super();
    this.ln_1 = new LayerNorm(dim);
    this.attn = new OpenClipAttention(dim, heads);
    this.ln_2 = new LayerNorm(dim);
    this.mlp = new OpenClipMlp(dim, inter);
  }

  forward(x: Tensor): Tensor {
    const h = add(x, this.attn.forward(this.ln_1.forward(x)));
    return add(h, this.mlp.forward(this.ln_2.forward(h)));
  }
}

/** What OpenCLIP's text towers share: embeddings, blocks and the norm behind the last. */
abstract class OpenClipTower extends NetworkModule {
  token_embedding: { weight: Parameter };
  positional_embedding: Parameter;
  transformer: { resblocks: ResidualAttentionBlock[] };
  ln_final: Layer;

  constructor(config: TowerConfig) {
    super();
    this.token_embedding = { weight: new Parameter([config.vocab, config.dim], 'host') };
    this.positional_embedding = new Parameter([config.context_length, config.dim], 'vector');
    this.transformer = { resblocks: Array.from({ length: config.layers }, () => new ResidualAttentionBlock(config)) };
    this.ln_final = new LayerNorm(config.dim);
  }

  get tokenTable(): Parameter {
    return this.token_embedding.weight;
  }

  /** tokens (N, L, dim) embedded -> (N, L, dim) after some blocks. */
  protected after(blocks: ResidualAttentionBlock[], tokens: Tensor): Tensor {
    return blocks.reduce((h, block) => block.forward(h), add(tokens, this.positional_embedding.tensor));
  }
}

/** OpenCLIP bigG's text tower, in SDXL. Checkpoint prefix `conditioner.embedders.1.model.` */
export class OpenClipTextModel extends OpenClipTower {
  text_projection: Parameter;

  constructor(config: TowerConfig & { embed: number }) {
    super(config);
    this.text_projection = new Parameter([config.dim, config.embed], 'transposed');
  }

  /**
   * tokens (1, L, dim) embedded; eot (1) u32, the position of the end token. -> penultimate (1, L, dim), the input of the last block
   * without the final norm, and pooled (1, embed).
   */
  forward(tokens: Tensor, eot: Tensor): { penultimate: Tensor; pooled: Tensor } {
    const blocks = this.transformer.resblocks;
    const penultimate = this.after(blocks.slice(0, -1), tokens);
    const last = blocks[blocks.length - 1].forward(penultimate);
    const end = gatherRows(reshape(last, last.shape.slice(1)), eot);
    return { penultimate, pooled: project(this.ln_final.forward(end), this.text_projection.tensor) };
  }
}

/**
 * OpenCLIP ViT-H's text tower as Stable Diffusion 2 uses it: all blocks but the last, then the final norm. The last block and the projection, which
 * some files lack, are not part of it. Checkpoint prefix `cond_stage_model.model.`
 */
export class PenultimateTextModel extends OpenClipTower {
  /** config: the whole tower's. */
  constructor(config: TowerConfig) {
    super({ ...config, layers: config.layers - 1 });
  }

  /** tokens (N, L, dim) embedded -> (N, L, dim) */
  forward(tokens: Tensor): Tensor {
    return this.ln_final.forward(this.after(this.transformer.resblocks, tokens));
  }
}
