/**
 * Methods of restoration compared on photos that were damaged on purpose, so that the truth is known: pictures, measures, and differences to a
 * baseline over the same photos. (The tables and figures of arXiv 2408.17060, sec. 4)
 */
import { UserError } from '../core/errors.ts';
import { nameKey, whyNotPlain } from '../core/plain-name.ts';
import { TorchRandom } from '../core/random.ts';
import { shown } from '../core/text.ts';
import type { Files } from '../host/host.ts';
import { crop } from '../image/compose.ts';
import { decode } from '../image/decode.ts';
import { type DegradationRanges, degrade, drawDegradation } from '../image/degrade.ts';
import { encodePng } from '../image/encode.ts';
import type { Image } from '../image/image.ts';
import { msSsim, psnr, ssim } from '../image/metrics.ts';
import { opaque } from '../image/opaque.ts';
import { gmsd, noiseLevel, sharpness } from '../image/sharpness.ts';

export interface Photo {
  /** Without ending; names of pictures are made of it. */
  name: string;
  path: string;
  /** What it shows; may be empty. */
  prompt: string;
}

export interface EvaluatedMethod {
  name: string;
  /** Of all that decides its results, to know them again; undefined where they are had quickly again. */
  identity?: string;
  /** Called before the first photo, and not timed. */
  open?(): Promise<void>;
  /** The damaged photo -> an image of the same size. */
  restore(damaged: Image, photo: Photo): Promise<Image>;
  /** Most bytes of GPU memory that the last photo took, weights included; a method that computes nothing has none. */
  peak?(): number;
  /** Called after the last photo, or when it failed; frees what the method holds. */
  close?(): Promise<void>;
}

/**
 * psnr in dB over RGB, psnrY over luma; ssim with a Gaussian window over RGB; msSsim and gmsd over luma; lpips where its weights were given; sharpness
 * relative to the truth; noise as the result alone shows it, in levels; gpuMb: GPU memory at most, in MB.
 */
export const MEASURES = ['psnr', 'psnrY', 'ssim', 'msSsim', 'gmsd', 'lpips', 'sharpness', 'noise', 'seconds', 'gpuMb'] as const;
export type Measure = (typeof MEASURES)[number];
/** Measures that a picture may lack: msSsim below 176 pixels a side, lpips without its weights, gpuMb where nothing was computed here. */
type Optional = 'msSsim' | 'lpips' | 'gpuMb';

/** One picture's measures. */
export interface Row extends Record<Exclude<Measure, Optional>, number>, Record<Optional, number | null> {
  method: string;
  photo: string;
}

/** How far two images of one size are apart to the eye; models/lpips.ts. */
export type Perceptual = (a: Image, b: Image) => Promise<number>;

export interface PairOptions {
  degradation: DegradationRanges;
  /** Of the degradation. */
  seed: number;
  /** The middle of each photo of at most this many pixels a side is taken; 0 takes all. */
  crop: number;
  /** Sides are cut to multiples of this, so that no method has to resize. */
  multiple: number;
}

export interface EvaluateOptions extends PairOptions {
  perceptual?: Perceptual | null;
  /** Rows of an earlier evaluation of the same pairs: what they are about is not done again. */
  known?: readonly Row[];
  /** Milliseconds. */
  now(): number;
  /** Asked before every picture; true ends with what is there. */
  stopped?(): boolean;
  /** Called with what reading a photo could not keep. */
  onNote?(path: string, note: string): void;
  /** Awaited. */
  onPicture?(row: Row, done: number, of: number): void | Promise<void>;
}

/** The name of a method's folder: its own, with a dash for what names of files may not have. */
const folderName = (method: string): string => method.replace(/[^\p{L}\p{M}\p{N}_.+-]+/gu, '-');

export const picturePath = (folder: string, method: string, photo: string): string => `${folder}/${folderName(method)}/${photo}.png`;

/** Names in the folder of results that are not a method's. */
const TAKEN = ['truth', 'damaged', 'results.json', 'results.csv', 'tables.md', 'figure.png'];

/** Throws UserError where a method's name is none for a folder, or two methods or two photos have names that some system takes for one. */
export function checkNames(methods: readonly Pick<EvaluatedMethod, 'name'>[], photos: readonly Pick<Photo, 'name' | 'path'>[]): void {
  const seen = new Map(TAKEN.map((name) => [name, name]));
  for (const { name } of methods) {
    const why = whyNotPlain(folderName(name));
    if (why !== null) throw new UserError(`The method name '${shown(name)}' ${why}; give the method another one, for its folder.`);
    const key = nameKey(folderName(name));
    const other = seen.get(key);
    if (other !== undefined)
      throw new UserError(
        `The method name '${shown(name)}' is taken${other === name ? '' : `, by '${shown(other)}'`}; give the method another one.`,
      );
    seen.set(key, name);
  }
  const paths = new Map<string, string>();
  for (const { name, path } of photos) {
    const other = paths.get(nameKey(name));
    if (other !== undefined)
      throw new UserError(`${shown(other)} and ${shown(path)} have one name, and so would their pictures. Evaluate them apart.`);
    paths.set(nameKey(name), path);
  }
}

/**
 * Writes every truth, damaged photo and result into `folder` as <truth|damaged|method>/<photo>.png and measures the results. Methods run one after
 * the other; a method's time does not include loading it. Throws UserError for photos that cannot be read or are too small, before any method runs, and
 * for results of another size.
 */
export async function evaluateMethods(
  files: Files,
  folder: string,
  photos: readonly Photo[],
  methods: readonly EvaluatedMethod[],
  options: EvaluateOptions,
): Promise<{ rows: Row[]; stopped: boolean }> {
  checkNames(methods, photos);
  const write = (method: string, photo: Photo, image: Image) =>
    files.writeFileAtomic(picturePath(folder, method, photo.name), encodePng(image));
  const read = async (method: string, photo: Photo) => {
    const path = picturePath(folder, method, photo.name);
    return decode(await files.readFile(path), path);
  };
  for (const [i, photo] of photos.entries()) {
    const image = await decode(await files.readFile(photo.path), photo.path);
    if (image.note) options.onNote?.(photo.path, image.note);
    const { truth, damaged } = makePair(image, photo.path, i, options);
    await write('truth', photo, truth);
    await write('damaged', photo, damaged);
  }
  const rows: Row[] = [];
  let stopped = false;
  for (const method of methods) {
    const knownOf = (photo: Photo) => options.known?.find((row) => row.method === method.name && row.photo === photo.name);
    const isNeeded = photos.some((photo) => !knownOf(photo));
    stopped ||= options.stopped?.() ?? false;
    if (stopped && isNeeded) break;
    try {
      if (isNeeded) await method.open?.();
      for (const photo of photos) {
        const known = knownOf(photo);
        if (!known && (stopped = options.stopped?.() ?? false)) break;
        const row = known ?? (await restored(method, photo));
        rows.push(row);
        await options.onPicture?.(row, rows.length, methods.length * photos.length);
      }
    } finally {
      await method.close?.();
    }
  }
  return { rows, stopped };

  async function restored(method: EvaluatedMethod, photo: Photo): Promise<Row> {
    const [truth, damaged] = [await read('truth', photo), await read('damaged', photo)];
    const begun = options.now();
    const result = await method.restore(damaged, photo);
    const seconds = (options.now() - begun) / 1000;
    if (result.width !== truth.width || result.height !== truth.height)
      throw new UserError(
        `${method.name}: the result for ${photo.name} is ${result.width}x${result.height}, and the photo ${truth.width}x${truth.height}.`,
      );
    const gpuMb = method.peak ? method.peak() / 1e6 : null;
    await write(method.name, photo, result);
    return { method: method.name, photo: photo.name, ...(await measure(truth, result, options.perceptual ?? null)), seconds, gpuMb };
  }
}

/** A photo's middle, and the same damaged; the i-th photo has its own seed. */
export function makePair(photo: Image, name: string, i: number, options: PairOptions): { truth: Image; damaged: Image } {
  const image = opaque(photo);
  const side = (length: number) => {
    const cut = options.crop > 0 ? Math.min(length, options.crop) : length;
    return cut - (cut % options.multiple);
  };
  const [width, height] = [side(image.width), side(image.height)];
  if (Math.min(width, height) < 16)
    throw new UserError(
      `${name} is ${image.width}x${image.height}: cut to multiples of ${options.multiple} pixels too little of it is left.`,
    );
  const truth = crop(image, (image.width - width) >> 1, (image.height - height) >> 1, width, height);
  return { truth, damaged: degrade(truth, drawDegradation(new TorchRandom(options.seed + i), options.degradation)) };
}

async function measure(
  truth: Image,
  result: Image,
  perceptual: Perceptual | null,
): Promise<Omit<Row, 'method' | 'photo' | 'seconds' | 'gpuMb'>> {
  return {
    psnr: psnr(truth, result),
    psnrY: psnr(truth, result, 'y'),
    ssim: ssim(truth, result),
    msSsim: msSsim(truth, result),
    gmsd: gmsd(truth, result),
    lpips: perceptual && (await perceptual(truth, result)),
    sharpness: sharpness(truth, result),
    noise: noiseLevel(result),
  };
}
