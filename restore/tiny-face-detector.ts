/**
 * A detector of faces small enough for the processor: face-api's "tiny face detector", a network like Tiny YOLO v2 (arXiv 1612.08242) with depthwise separable
 * convolutions, trained on photos with faces of all sizes. Its weights, 190 KB, come from the package @vladmandic/face-api (MIT). It is run at several sizes,
 * for it knows faces of some twenty to four hundred pixels.
 */
import { UserError } from '../core/errors.ts';
import { isRecord } from '../core/json.ts';
import type { Image } from '../image/image.ts';
import { opaque } from '../image/opaque.ts';
import { resize } from '../image/resize.ts';
import { FACE_PACKAGE, type Face, type FaceFinder } from './faces.ts';

/** Widths and heights of a cell's five boxes, in cells; a cell is 32 pixels. */
const ANCHORS = [
  [1.603231, 2.094468],
  [6.041143, 7.080126],
  [2.882459, 3.518061],
  [4.266906, 5.178857],
  [9.041765, 10.66308],
] as const;
const [CELL, PER_BOX] = [32, 5];
/** Subtracted from bytes of red, green and blue. */
const MEAN = [117.001, 114.697, 97.404];
const LEAK = Math.fround(0.1);
/** Channels after each layer. */
const CHANNELS = [3, 16, 32, 64, 128, 256, 512];
/** A box is a face above this; two that overlap by more of their union are one. */
const [LEAST_SCORE, SAME] = [0.55, 0.4];
/** Long sides at which a photo is searched, as far as it has so many pixels. The first is also for smaller ones. */
const SIDES = [416, 896, 1600];

interface Weights {
  first: Layer;
  separable: { depthwise: Float32Array; pointwise: Layer }[];
  last: Layer;
}

/** A matmul over channels: weights (in, out). */
interface Layer {
  weights: Float32Array;
  bias: Float32Array;
}

interface Plane {
  width: number;
  height: number;
  channels: number;
  data: Float32Array;
}

/** Reads the package's two files. Throws UserError where they are not these weights. */
export function readFaceWeights(manifest: Uint8Array, bytes: Uint8Array): Weights {
  const wrong = (what: string) =>
    new UserError(`The weights of the face detector in ${FACE_PACKAGE} are not as they should be: ${what}. Install the package again.`, {
      code: 'face-weights',
    });
  let entries: unknown;
  try {
    const json: unknown = JSON.parse(new TextDecoder().decode(manifest));
    entries = Array.isArray(json) && isRecord(json[0]) ? json[0].weights : undefined;
  } catch {
    throw wrong('the list is no JSON');
  }
  if (!Array.isArray(entries) || entries.length > 100) throw wrong('there is no list');
  const tensors = new Map<string, Float32Array>();
  let at = 0;
  for (const entry of entries) {
    const { name, shape, quantization }: Record<string, unknown> = isRecord(entry) ? entry : {};
    const isShape = Array.isArray(shape) && shape.length <= 4 && shape.every((side) => Number.isInteger(side) && side > 0 && side <= 4096);
    if (typeof name !== 'string' || !isShape || !isRecord(quantization)) throw wrong('an entry lacks its name, shape or scale');
    const { scale, min } = quantization;
    const count = (shape as number[]).reduce((product, side) => product * side, 1);
    if (typeof scale !== 'number' || typeof min !== 'number' || at + count > bytes.length) throw wrong(`${name} is cut off`);
    tensors.set(
      name,
      Float32Array.from(bytes.subarray(at, at + count), (value) => value * scale + min),
    );
    at += count;
  }
  const tensor = (name: string, size: number): Float32Array => {
    const found = tensors.get(name);
    if (found?.length !== size) throw wrong(`${name} has ${found?.length ?? 'no'} numbers and must have ${size}`);
    return found;
  };
  const outputs = ANCHORS.length * PER_BOX;
  return {
    first: { weights: tensor('conv0/filters', 27 * CHANNELS[1]), bias: tensor('conv0/bias', CHANNELS[1]) },
    separable: CHANNELS.slice(2).map((channels, i) => ({
      depthwise: tensor(`conv${i + 1}/depthwise_filter`, 9 * CHANNELS[i + 1]),
      pointwise: {
        weights: tensor(`conv${i + 1}/pointwise_filter`, CHANNELS[i + 1] * channels),
        bias: tensor(`conv${i + 1}/bias`, channels),
      },
    })),
    last: { weights: tensor('conv8/filters', CHANNELS[6] * outputs), bias: tensor('conv8/bias', outputs) },
  };
}

/** Sums over the channels of every pixel; leaky: with the activation. */
function pointwise({ width, height, channels, data }: Plane, { weights, bias }: Layer, leaky: boolean): Plane {
  const out = bias.length;
  const result = new Float32Array(width * height * out);
  const sums = new Float32Array(out);
  for (let pixel = 0; pixel < width * height; pixel++) {
    sums.set(bias);
    for (let k = 0; k < channels; k++) {
      const value = data[pixel * channels + k];
      const row = k * out;
      for (let c = 0; c < out; c++) sums[c] += value * weights[row + c];
    }
    if (leaky) for (let c = 0; c < out; c++) if (sums[c] < 0) sums[c] *= LEAK;
    result.set(sums, pixel * out);
  }
  return { width, height, channels: out, data: result };
}

/** 3 x 3 over each channel by itself, zeros around. weights (3, 3, channels) */
function depthwise({ width, height, channels, data }: Plane, weights: Float32Array): Plane {
  const result = new Float32Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const to = (y * width + x) * channels;
      for (let dy = -1; dy <= 1; dy++) {
        if (y + dy < 0 || y + dy >= height) continue;
        for (let dx = -1; dx <= 1; dx++) {
          if (x + dx < 0 || x + dx >= width) continue;
          const from = ((y + dy) * width + x + dx) * channels;
          const tap = ((dy + 1) * 3 + dx + 1) * channels;
          for (let c = 0; c < channels; c++) result[to + c] += data[from + c] * weights[tap + c];
        }
      }
    }
  }
  return { width, height, channels, data: result };
}

/** The largest of 2 x 2, `step` apart; beyond the right and lower border there is nothing. */
function maxPool({ width, height, channels, data }: Plane, step: 1 | 2): Plane {
  const [w, h] = [Math.ceil(width / step), Math.ceil(height / step)];
  const result = new Float32Array(w * h * channels);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      for (let c = 0; c < channels; c++) {
        let most = Number.NEGATIVE_INFINITY;
        for (let row = y * step; row < Math.min(height, y * step + 2); row++)
          for (let column = x * step; column < Math.min(width, x * step + 2); column++)
            most = Math.max(most, data[(row * width + column) * channels + c]);
        result[(y * w + x) * channels + c] = most;
      }
    }
  }
  return { width: w, height: h, channels, data: result };
}

/** Every 3 x 3 of a picture in one row of 27, the border left out. */
function patches({ width, height, data }: Plane): Plane {
  const [w, h] = [width - 2, height - 2];
  const result = new Float32Array(w * h * 27);
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++)
      for (let row = 0; row < 3; row++) {
        const from = ((y + row) * width + x) * 3;
        result.set(data.subarray(from, from + 9), (y * w + x) * 27 + row * 9);
      }
  return { width: w, height: h, channels: 27, data: result };
}

/** The network's answers: (rows, columns, 25). Sides are multiples of 32. */
export function faceNetwork({ first, separable, last }: Weights, picture: Plane): Plane {
  let x = maxPool(pointwise(patches(picture), first, true), 2);
  for (const [i, { depthwise: taps, pointwise: layer }] of separable.entries())
    x = maxPool(pointwise(depthwise(x, taps), layer, true), i < separable.length - 1 ? 2 : 1);
  return pointwise(x, last, false);
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** Faces in a photo whose long side is made `side` pixels. */
function searched(weights: Weights, photo: Image, side: number): Face[] {
  const scale = side / Math.max(photo.width, photo.height);
  const [w, h] = [Math.max(1, Math.round(photo.width * scale)), Math.max(1, Math.round(photo.height * scale))];
  const small = resize(photo, w, h, 'bicubic');
  const [width, height] = [w, h].map((each) => Math.ceil(each / CELL) * CELL);
  // What lies beyond the photo is black, as the detector knows it.
  const data = Float32Array.from({ length: width * height * 3 }, (_, i) => -MEAN[i % 3] / 255);
  for (let y = 0; y < h; y++) for (let x = 0; x < w * 3; x++) data[y * width * 3 + x] = (small.data[y * w * 3 + x] - MEAN[x % 3]) / 255;
  const answer = faceNetwork(weights, { width, height, channels: 3, data });
  const faces: Face[] = [];
  for (let cell = 0; cell < answer.width * answer.height; cell++) {
    const [column, row] = [cell % answer.width, Math.floor(cell / answer.width)];
    for (const [i, [across, down]] of ANCHORS.entries()) {
      const [x, y, lx, ly, sure] = answer.data.subarray((cell * ANCHORS.length + i) * PER_BOX, (cell * ANCHORS.length + i + 1) * PER_BOX);
      const score = sigmoid(sure);
      if (score < LEAST_SCORE) continue;
      const [fw, fh] = [(Math.exp(lx) * across * CELL) / scale, (Math.exp(ly) * down * CELL) / scale];
      const [cx, cy] = [((column + sigmoid(x)) * CELL) / scale, ((row + sigmoid(y)) * CELL) / scale];
      faces.push({ x: cx - fw / 2, y: cy - fh / 2, width: fw, height: fh, score });
    }
  }
  return faces;
}

/** The surest of those that are one face. */
function distinct(faces: Face[]): Face[] {
  const kept: Face[] = [];
  for (const face of faces.sort((a, b) => b.score - a.score)) if (!kept.some((other) => isSame(face, other))) kept.push(face);
  return kept;
}

/** Whether two boxes overlap by much of their union, or one lies mostly within the other. */
function isSame(a: Face, b: Face): boolean {
  const across = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const down = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  if (across <= 0 || down <= 0) return false;
  const [both, of, other] = [across * down, a.width * a.height, b.width * b.height];
  return both / (of + other - both) > SAME || both / Math.min(of, other) > 0.7;
}

/** A finder by these weights. */
export function tinyFaceFinder(weights: Weights): FaceFinder {
  return async (image, signal) => {
    const photo = opaque(image);
    const long = Math.max(photo.width, photo.height);
    const faces: Face[] = [];
    for (const side of SIDES.filter((each, i) => i === 0 || each <= 1.5 * long)) {
      signal?.throwIfAborted();
      faces.push(...searched(weights, photo, side));
      await new Promise((next) => setTimeout(next)); // others have their turn
    }
    return distinct(faces);
  };
}
