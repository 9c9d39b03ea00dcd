/**
 * Colour fix of a restored image against a reference with the right colours (SUPIR: the stage-1 preview). Wavelet: the reference's low
 * frequencies under the result's high ones ("a trous" decomposition with a binomial kernel, as StableSR). AdaIN: the reference's mean and
 * spread per channel (Huang & Belongie 2017). Lab: wavelet, then the reference's histograms of colour, as SeedVR2's front ends do it.
 */
import { ShapeError } from '../core/errors.ts';
import type { FloatImage } from './image.ts';
import { labOfRgb, rgbOfLab } from './lab.ts';

export const WAVELET_LEVELS = 5;

/** x (H, W, C) blurred by [1 2 1] x [1 2 1] / 16 with its taps `radius` pixels apart, the border pixel repeated. f32. */
export function waveletBlur(x: FloatImage, radius: number): FloatImage {
  const out = new Float32Array(x.data.length);
  blurInto(x, radius, out);
  return { ...x, data: out };
}

/** waveletBlur of x into out, row by row: three rows are mixed, then the mixed row with itself, moved by `radius` pixels to both sides. */
function blurInto(x: FloatImage, radius: number, out: Float32Array): void {
  const { width, height, channels, data } = x;
  const stride = width * channels;
  const mixed = new Float32Array(stride + 2 * radius * channels); // with the border pixel repeated on both sides
  const [inside, shift] = [radius * channels, radius * channels];
  for (let y = 0; y < height; y++) {
    const [above, here, below] = [Math.max(y - radius, 0) * stride, y * stride, Math.min(y + radius, height - 1) * stride];
    for (let i = 0; i < stride; i++) mixed[inside + i] = 0.25 * data[above + i] + 0.5 * data[here + i] + 0.25 * data[below + i];
    for (let i = 0; i < inside; i++) {
      mixed[i] = mixed[inside + (i % channels)];
      mixed[inside + stride + i] = mixed[inside + stride - channels + (i % channels)];
    }
    for (let i = 0; i < stride; i++) {
      out[here + i] = 0.25 * mixed[inside + i - shift] + 0.5 * mixed[inside + i] + 0.25 * mixed[inside + i + shift];
    }
  }
}

/** The image's low frequencies: blurred with radius 1, 2, 4, ... 2^(levels-1) in turn. */
function lowFrequencies(x: FloatImage, levels: number): FloatImage {
  let low: FloatImage = { ...x, data: new Float32Array(x.data.length) };
  blurInto(x, 1, low.data);
  let spare = levels > 1 ? new Float32Array(x.data.length) : low.data;
  for (let level = 1; level < levels; level++) {
    blurInto(low, 2 ** level, spare);
    [low, spare] = [{ ...low, data: spare }, low.data];
  }
  return low;
}

/** x (H, W, C) = high + low; low is blurred with radius 1, 2, 4, ... in turn. */
export function waveletDecomposition(x: FloatImage, levels: number = WAVELET_LEVELS): { high: FloatImage; low: FloatImage } {
  const low = lowFrequencies(x, levels);
  return { high: { ...x, data: x.data.map((value, i) => value - low.data[i]) }, low };
}

/**
 * The high frequencies of content with the low frequencies of style, both (H, W, C); ShapeError if they differ in size. The blur is linear, so
 * content - low(content) + low(style) is content + low(style - content): one decomposition instead of two.
 */
export function waveletColorFix(content: FloatImage, style: FloatImage, levels: number = WAVELET_LEVELS): FloatImage {
  checkSameShape('waveletColorFix', content, style);
  const difference = new Float32Array(content.data.length);
  for (let i = 0; i < difference.length; i++) difference[i] = style.data[i] - content.data[i];
  const fixed = lowFrequencies({ ...content, data: difference }, levels);
  for (let i = 0; i < difference.length; i++) fixed.data[i] += content.data[i];
  return fixed;
}

/** content with each channel's mean and standard deviation moved to those of style, both (H, W, C). ShapeError if the channels differ. */
export function adainColorFix(content: FloatImage, style: FloatImage): FloatImage {
  if (content.channels !== style.channels) checkSameShape('adainColorFix', content, style);
  const { channels } = content;
  const [from, to] = [channelStatistics(content), channelStatistics(style)];
  const out = new Float32Array(content.data.length);
  for (let c = 0; c < channels; c++) {
    const scale = to[c].deviation / from[c].deviation;
    for (let i = c; i < out.length; i += channels) out[i] = (content.data[i] - from[c].mean) * scale + to[c].mean;
  }
  return { ...content, data: out };
}

/** How much of the content's own lightness `labColorFix` keeps. */
const OWN_LIGHTNESS = 0.8;

/**
 * `waveletColorFix`, and then in L*a*b* the histograms of a and b are those of style, and L is that of the content by four fifths, of style's histogram by
 * one. Both (H, W, 3) in unit range, and so is the result. ShapeError if they differ in size or have other channels.
 */
export function labColorFix(content: FloatImage, style: FloatImage): FloatImage {
  if (content.channels !== 3) throw new ShapeError(`labColorFix: an RGB image has 3 channels, this one has ${content.channels}.`);
  const [own, like] = [labPlanes(waveletColorFix(content, style)), labPlanes(style)];
  const lightness = matched(own[0], like[0]).map((value, i) => OWN_LIGHTNESS * own[0][i] + (1 - OWN_LIGHTNESS) * value);
  const [a, b] = [matched(own[1], like[1]), matched(own[2], like[2])];
  const out = new Float32Array(content.data.length);
  for (let i = 0; i < a.length; i++) {
    const rgb = rgbOfLab(lightness[i], a[i], b[i]);
    for (let c = 0; c < 3; c++) out[3 * i + c] = Math.min(1, rgb[c]) * 2 - 1;
  }
  return { ...content, data: out };
}

/** L, a and b of every pixel, colours beyond unit range clipped. */
function labPlanes({ data }: FloatImage): [l: Float32Array, a: Float32Array, b: Float32Array] {
  const count = data.length / 3;
  const planes = [new Float32Array(count), new Float32Array(count), new Float32Array(count)] as const;
  const unit = (value: number) => Math.min(1, Math.max(0, (value + 1) / 2));
  for (let i = 0; i < count; i++) {
    const lab = labOfRgb(unit(data[3 * i]), unit(data[3 * i + 1]), unit(data[3 * i + 2]));
    for (let c = 0; c < 3; c++) planes[c][i] = lab[c];
  }
  return [...planes];
}

/** Values in the order of `from`, and of as many: the lowest of `to` where `from` has its lowest, and so on. Equal ones stay in order of place. */
function matched(from: Float32Array, to: Float32Array): Float32Array {
  const sorted = to.slice().sort();
  const order = Uint32Array.from(from.keys()).sort((a, b) => from[a] - from[b] || a - b);
  const out = new Float32Array(from.length);
  for (let rank = 0; rank < order.length; rank++) out[order[rank]] = sorted[rank];
  return out;
}

/** Mean and sqrt(unbiased variance + 1e-5) of each channel, in f64. */
function channelStatistics({ data, channels }: FloatImage): { mean: number; deviation: number }[] {
  const count = data.length / channels;
  return Array.from({ length: channels }, (_, c) => {
    let sum = 0;
    for (let i = c; i < data.length; i += channels) sum += data[i];
    const mean = sum / count;
    let squares = 0;
    for (let i = c; i < data.length; i += channels) squares += (data[i] - mean) ** 2;
    return { mean, deviation: Math.sqrt(squares / Math.max(count - 1, 1) + 1e-5) };
  });
}

function checkSameShape(name: string, a: FloatImage, b: FloatImage): void {
  if (a.width === b.width && a.height === b.height && a.channels === b.channels) return;
  const shape = (x: FloatImage) => `${x.width}x${x.height}x${x.channels}`;
  throw new ShapeError(`${name}: content is ${shape(a)} and style ${shape(b)}; they must have the same size.`);
}
