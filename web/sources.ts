/** Which source files compute a block: the page brings them along, so that the links work without a network. */
import type { GraphBlock } from '../drawing/graph-blocks.ts';

/** By class of a network or module. */
const MODULES: Record<string, string> = {
  ControlNet: 'models/control.ts',
  SupirUnet: 'models/supir-unet.ts',
  Block: 'models/blocks.ts',
  Sequential: 'models/layers.ts',
  ResBlock: 'models/blocks.ts',
  Downsample: 'models/blocks.ts',
  Upsample: 'models/upsample.ts',
  SpatialTransformer: 'models/transformer.ts',
  BasicTransformerBlock: 'models/transformer.ts',
  CrossAttention: 'models/transformer.ts',
  ZeroSFT: 'models/zero-sft.ts',
  ZeroCrossAttn: 'models/zero-sft.ts',
};

/** By name of an operation. */
const OPERATIONS: Record<string, string> = {
  conv2d: 'kernels/conv2d.ts',
  linear: 'kernels/linear.ts',
  attention: 'kernels/attention.ts',
  groupNorm: 'kernels/group-norm.ts',
  layerNorm: 'kernels/layer-norm.ts',
  geglu: 'kernels/geglu.ts',
  modulate: 'kernels/zero-sft.ts',
  unary: 'kernels/unary.ts',
  binary: 'kernels/binary.ts',
  concat: 'kernels/copy.ts',
  upsampleNearest: 'kernels/copy.ts',
};

/** Paths of sources, the networks' before the kernels'. */
export function sourcesOf({ network, kind, parts, operations }: GraphBlock): string[] {
  const kinds = [network, kind, ...parts.map((part) => part.kind.replace(/^\d+ /, ''))];
  const models = kinds.flatMap((each) => MODULES[each] ?? []);
  const kernels = Object.keys(operations).flatMap((each) => OPERATIONS[each] ?? []);
  return [...new Set([...models, ...kernels])];
}
