/** Pictures without colour: networks that were trained on colour photos give them a tint, which nobody asked for. */
import type { DeepImage, FloatImage, Image } from './image.ts';

/** Whether every pixel is exactly grey: equal red, green and blue. */
export function isGrey({ data }: Pick<Image | DeepImage, 'data'>): boolean {
  for (let i = 0; i < data.length; i += 3) if (data[i] !== data[i + 1] || data[i] !== data[i + 2]) return false;
  return true;
}

/** x (H, W, 3) with BT.601 luma in all three channels. */
export function withoutColor(x: FloatImage): FloatImage {
  const data = new Float32Array(x.data.length);
  for (let i = 0; i < data.length; i += 3) data.fill(0.299 * x.data[i] + 0.587 * x.data[i + 1] + 0.114 * x.data[i + 2], i, i + 3);
  return { ...x, data };
}
