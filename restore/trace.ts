/**
 * A trace: intermediate activations of UNet and control network, evaluation by evaluation, as safetensors and as pictures of their channels.
 * Names are the checkpoint's, such as `model.diffusion_model.output_blocks.3`.
 */
import { UserError } from '../core/errors.ts';
import { createImage, type Image } from '../image/image.ts';
import { encodeSafetensors } from '../weights/safetensors-writer.ts';
import type { Tap, Values } from './networks.ts';

/** Channels that a picture shows at most. */
const CHANNELS = 64;

/** Whether a name matches one of the patterns, in which * stands for anything. */
export function matcher(patterns: readonly string[]): (name: string) => boolean {
  const expressions = patterns.map((pattern) => {
    if (!/^[\w.*]+$/.test(pattern))
      throw new UserError(`'${pattern}' is no name of an activation: names have letters, digits, _ and dots; * stands for anything.`);
    return new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '.*')}$`);
  });
  return (name) => expressions.some((expression) => expression.test(name));
}

export interface TraceWriter {
  /** All activations of an evaluation, as a safetensors file; (B N, H, W, C) with the branches of guidance (negative, positive) one after the other. */
  file(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** One activation of the last image as a picture. */
  picture(name: string, image: Image): Promise<void>;
}

/** Watches the activations whose names match `patterns`. Evaluations are numbered from 1 on: one a step, or one a tile of a step. */
export function traceTo({ file, picture }: TraceWriter, patterns: readonly string[]): Tap {
  let evaluation = 0;
  const matches = matcher(patterns);
  return {
    // With a wildcard blocks are meant; what they are made of goes by its full name.
    wanted: (name, isBlock) => (isBlock ? matches(name) : patterns.includes(name)),
    async take(tensors) {
      const name = `evaluation-${String(++evaluation).padStart(3, '0')}`;
      const entries = Object.entries(tensors);
      await file(name, encodeSafetensors(entries.map(([key, { data, shape }]) => [key, { dtype: 'F32', shape: [...shape], data }])));
      for (const [key, values] of entries) if (values.shape.length === 4) await picture(`${name}.${key}`, mosaic(values));
    },
  };
}

/**
 * The channels of the last of the images (N, H, W, C) in a near-square grid, at most 64, from left to right and from above. Each is shown for itself, its mean grey, and
 * black and white two and a half standard deviations away.
 */
export function mosaic({ data, shape: [n, height, width, channels] }: Values, gap = 1): Image {
  const shown = Math.min(channels, CHANNELS);
  const columns = Math.ceil(Math.sqrt(shown));
  const picture = createImage(columns * (width + gap) - gap, Math.ceil(shown / columns) * (height + gap) - gap);
  const image = data.subarray((n - 1) * height * width * channels);
  const pixels = height * width;
  for (let channel = 0; channel < shown; channel++) {
    let [sum, squares] = [0, 0];
    for (let i = 0; i < pixels; i++) {
      sum += image[i * channels + channel];
      squares += image[i * channels + channel] ** 2;
    }
    const mean = sum / pixels;
    const deviation = Math.sqrt(Math.max(0, squares / pixels - mean ** 2)) || 1;
    const [left, top] = [(channel % columns) * (width + gap), Math.floor(channel / columns) * (height + gap)];
    for (let i = 0; i < pixels; i++) {
      const level = 127.5 + (51 * (image[i * channels + channel] - mean)) / deviation;
      const at = ((top + Math.floor(i / width)) * picture.width + left + (i % width)) * 3;
      picture.data.fill(Math.min(255, Math.max(0, level)), at, at + 3);
    }
  }
  return picture;
}
