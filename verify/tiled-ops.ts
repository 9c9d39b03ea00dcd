/** The golden operations of the tiled autoencoder: bare networks whole and in the published tiles, and encoding as a whole. */
import type { Tensor } from '../core/tensor.ts';
import type { EncoderName } from '../models/vae.ts';
import { type PublishedMode, publishedTiles, runAutoencoder, runPublishedTiles, tileCorners, VAE_TILING } from '../restore/tiled-vae.ts';
import type { Operation, Results, VerifyContext } from './context.ts';
import { type CaseEntry, toChannelsFirst, toChannelsLast, unitImage } from './golden.ts';

/** Encoder before quant_conv, or decoder after post_quant_conv, and its input. */
async function bareNetwork(entry: CaseEntry, context: VerifyContext) {
  const net: EncoderName | 'decoder' = entry.config.net;
  const { networks, device } = await context.model(entry);
  const x = net === 'decoder' ? toChannelsLast(await context.input(entry, 'x')) : unitImage(await context.input(entry, 'image'));
  const half: 'encoder' | 'decoder' = net === 'decoder' ? 'decoder' : 'encoder';
  return { x, device, half, build: (tensor: Tensor) => networks.first_stage_model[net].forward(tensor) };
}

async function vaeNet(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { x, device, half, build } = await bareNetwork(entry, context);
  const whole = await runAutoencoder(device, half, build, x, { ...VAE_TILING, how: 'off' });
  return { y: toChannelsFirst(whole.data, whole.shape) };
}

async function tiledVaeNet(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { x, device, half, build } = await bareNetwork(entry, context);
  const { tile_size, pad, mode } = entry.config as { tile_size: number; pad: number; mode: PublishedMode };
  const y = await runPublishedTiles(device, half, build, x, tile_size, mode);
  const tiles = publishedTiles(x.shape[1], x.shape[2], tile_size, pad, y.shape[1] / x.shape[1]);
  return { y: toChannelsFirst(y.data, y.shape), input_boxes: tileCorners(tiles, 'read'), output_boxes: tileCorners(tiles, 'written') };
}

async function vaeEncodeTiled(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const model = await context.model(entry);
  const { net, encoder_tile_size, decoder_tile_size } = entry.config;
  const tiling = { ...VAE_TILING, how: 'published' as const, encoderTile: encoder_tile_size, decoderTile: decoder_tile_size };
  const { mean } = await model.encode(unitImage(await context.input(entry, 'image')), net, tiling);
  const scale = model.config.vae.scale_factor;
  return { z: toChannelsFirst(mean.data, mean.shape).map((value) => value * scale) };
}

export const tiledOperations: Record<string, Operation> = {
  vae_net: vaeNet,
  tiled_vae_net: tiledVaeNet,
  vae_encode_tiled: vaeEncodeTiled,
};
