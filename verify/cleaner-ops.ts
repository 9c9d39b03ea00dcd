/** The golden operations of DiffBIR's cleaners: RRDBNet, SwinIR and SCUNet, whole and by the block. */
import { input, type Tensor } from '../core/tensor.ts';
import type { FloatImage } from '../image/image.ts';
import { type Border, cropTo, padToMultiple } from '../image/pad.ts';
import { shiftMask } from '../kernels/window-attention.ts';
import { RrdbNet } from '../models/rrdb-net.ts';
import { ConvTransBlock, SCUNET, ScUnet } from '../models/scunet.ts';
import { BLOCKED, SWINIR, SwinBlock, SwinIr } from '../models/swinir.ts';
import { runTiled } from '../restore/tiled-image.ts';
import { attach } from '../weights/attach.ts';
import type { Operation, Results, VerifyContext } from './context.ts';
import { type CaseEntry, toChannelsFirst, toChannelsLast } from './golden.ts';

/** What the published BSRNet is made of. */
export const BSRNET = { nf: 64, nb: 23, gc: 32, scale: 4 };

export interface Cleaners {
  bsrnet?: { nf: number; nb: number; gc: number; sf: number };
  swinir?: typeof SWINIR;
  scunet?: typeof SCUNET;
}

/** The configurations of the seeded model that a case names. */
function cleanersOf({ weights }: CaseEntry, { folder }: VerifyContext): Cleaners {
  return (folder.index.models[weights!.model!].config ?? {}) as Cleaners;
}

/** Stored (H, W, 3) or (N, H, W, 3) u8 pictures as images in [0, 1]. */
async function pictures(entry: CaseEntry, context: VerifyContext): Promise<FloatImage[]> {
  const { data, shape } = await context.input(entry, 'image');
  const [n, height, width] = shape.length === 3 ? [1, ...shape] : shape;
  const size = height * width * 3;
  return Array.from({ length: n }, (_, i) => ({
    ...{ width, height, channels: 3 },
    data: Float32Array.from(data.subarray(i * size, (i + 1) * size), (value) => value / 255),
  }));
}

/** Runs a network with the case's weights, given a batch of pictures. -> outputs (N, C, H, W) with the network's sizes */
async function runOn(
  entry: CaseEntry,
  context: VerifyContext,
  module: object,
  images: FloatImage[],
  build: (x: Tensor) => Record<string, Tensor>,
): Promise<{ results: Record<string, Float32Array>; shapes: Record<string, readonly number[]> }> {
  attach(module, entry.weights!.prefix!, await context.folder.checkpoint(entry));
  const [{ width, height, channels }] = images;
  const x = new Float32Array(images.length * width * height * channels);
  for (const [i, image] of images.entries()) x.set(image.data, i * image.data.length);
  const outputs = build(input('x', [images.length, height, width, channels]));
  const results = await context.runOnce(module, outputs, { x });
  return { results, shapes: Object.fromEntries(Object.entries(outputs).map(([name, { shape }]) => [name, shape])) };
}

async function whole(
  entry: CaseEntry,
  context: VerifyContext,
  module: { forward(x: Tensor): Tensor },
  { multiple, border, crop }: { multiple: number; border: Border; crop: boolean },
): Promise<Results> {
  const images = await pictures(entry, context);
  const padded = images.map((image) => padToMultiple(image, multiple, border));
  const { results, shapes } = await runOn(entry, context, module, padded, (x) => ({ y: module.forward(x) }));
  const [n, h, w, c] = shapes.y;
  if (!crop) return { y: toChannelsFirst(results.y, [n, h, w, c]) };
  const [{ width, height }] = images;
  const cropped = Array.from({ length: n }, (_, i) => {
    const data = results.y.subarray(i * h * w * c, (i + 1) * h * w * c);
    return toChannelsFirst(cropTo({ width: w, height: h, channels: c, data }, width, height).data, [1, height, width, c]);
  });
  return { y: cropped.flatMap((part) => [...part]) };
}

async function tiled(entry: CaseEntry, context: VerifyContext, net: RrdbNet): Promise<Results> {
  const [image] = await pictures(entry, context);
  const { tile_size: size, tile_stride: stride } = entry.config;
  const { width, height, channels, data } = await runTiled(image, size, stride, 4, async (tile) => {
    const { results, shapes } = await runOn(entry, context, net, [tile], (x) => ({ y: net.forward(x) }));
    return { width: shapes.y[2], height: shapes.y[1], channels: 3, data: results.y };
  });
  return { y: toChannelsFirst(data, [1, height, width, channels]) };
}

export const cleanerOperations: Record<string, Operation> = {
  rrdb_net(entry, context) {
    const { bsrnet } = cleanersOf(entry, context);
    const net = new RrdbNet(bsrnet ? { ...bsrnet, scale: bsrnet.sf, unshuffle: 1 } : BSRNET);
    if (entry.config?.tile_size) return tiled(entry, context, net);
    return whole(entry, context, net, { multiple: 1, border: 'zero', crop: false });
  },

  swinir(entry, context) {
    const { swinir = SWINIR } = cleanersOf(entry, context);
    return whole(entry, context, new SwinIr(swinir), { multiple: swinir.window_size, border: 'reflect', crop: false });
  },

  scunet(entry, context) {
    const { scunet = SCUNET } = cleanersOf(entry, context);
    return whole(entry, context, new ScUnet(scunet), { multiple: 64, border: 'replicate', crop: true });
  },

  async swin_block(entry, context) {
    const { dim, heads, window, shift, h, w, mlp_ratio } = entry.config;
    const { data, shape } = await context.input(entry, 'x');
    const [n] = shape;
    const block = new SwinBlock(dim, heads, window, shift, mlp_ratio);
    attach(block, entry.weights!.prefix!, await context.folder.checkpoint(entry));
    const x = input('x', [n, h, w, dim]);
    const { y } = await context.runOnce(block, { y: block.forward(x) }, { x: Float32Array.from(data) });
    const { source } = shiftMask(h, w, window, shift, BLOCKED);
    const results: Results = { y };
    if (shift > 0 && source.kind === 'constant') results.mask = source.data;
    return results;
  },

  async scunet_block(entry, context) {
    const { type, dim } = entry.config;
    const { data, shape } = toChannelsLast(await context.input(entry, 'x'));
    const block = new ConvTransBlock(dim, type === 'SW');
    attach(block, entry.weights!.prefix!, await context.folder.checkpoint(entry));
    const y = block.forward(input('x', shape));
    return { y: toChannelsFirst((await context.runOnce(block, { y }, { x: data })).y, y.shape) };
  },
};
