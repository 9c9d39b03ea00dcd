/**
 * Sampling latents larger than the networks should see at once: in every step UNet and control network predict the noise of overlapping
 * windows, whose weighted mean the sampler gets. One program serves all windows, so that memory depends on the window, not on the image.
 */
import { UserError } from '../core/errors.ts';
import type { Shape } from '../core/tensor.ts';
import type { Network } from '../sampler/denoiser.ts';
import { cropWindow, type TileWindow, tiledNetwork, tileWindows } from '../sampler/tiles.ts';
import { type DenoiserOptions, type TextConditioning, textInputs, type Values } from './networks.ts';
import type { SupirModel } from './supir-model.ts';

/** What a sampler calls, and what frees its buffers. */
export interface PlannedNetwork {
  network: Network;
  dispose(): void;
}

/**
 * The windows in which latents (N, h, w, z) are sampled, or null if they are sampled whole: without a tile, or when one covers the latent.
 * Tile and stride in latent pixels; a stride of 0 is half the tile, a tile of 0 is none. Throws UserError unless the tile suits the UNet.
 */
export function samplingWindows(model: SupirModel, [, h, w]: Shape, tile: number, stride: number): TileWindow[] | null {
  if (tile === 0 || (h <= tile && w <= tile)) return null;
  const multiple = 2 ** (model.config.unet.channel_mult.length - 1);
  if (tile % multiple) throw new UserError(`Tiles of ${tile} latent pixels do not suit this model: give a multiple of ${multiple}.`);
  return tileWindows(h, w, tile, stride || Math.ceil(tile / 2));
}

/** Throws UserError unless there is one prompt, or one for each window. */
export function checkPrompts(prompts: number, windows: readonly TileWindow[] | null): void {
  if (prompts === 1 || prompts === windows?.length) return;
  const tiles = windows ? `${windows.length} tiles` : 'a latent that is sampled whole';
  throw new UserError(`${prompts} prompts for ${tiles}: give ${windows ? 'one for each, row by row, or ' : ''}one for all.`);
}

/**
 * Plans UNet and control network for the windows of `hint` (N, h, w, z), the degraded image's latent. `positives` holds one conditioning for
 * every window or one for all; the negative one is shared, and null for no guidance. Throws UserError when the number of positives fits neither.
 */
export async function tiledDenoiser(
  model: SupirModel,
  hint: Values,
  negative: TextConditioning | null,
  positives: TextConditioning[],
  windows: TileWindow[],
  options: DenoiserOptions = {},
): Promise<PlannedNetwork> {
  checkPrompts(positives.length, windows);
  const [n, , , z] = hint.shape;
  const [{ y0, y1, x0, x1 }] = windows;
  const hints = windows.map((window) => cropWindow(hint.data, hint.shape, window));
  const texts = positives.length > 1 ? positives.map((positive) => textInputs(n, negative, positive)) : [];
  const denoiser = await model.denoiser({ data: hints[0], shape: [n, y1 - y0, x1 - x0, z] }, negative, positives[0], options);
  const network = tiledNetwork(
    (input, index) => {
      options.signal?.throwIfAborted();
      return denoiser.evaluate(input, { hint: hints[index], ...texts[index] }, index);
    },
    windows,
    hint.shape,
  );
  return { network, dispose: () => denoiser.dispose() };
}
