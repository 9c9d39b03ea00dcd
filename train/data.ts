/**
 * A folder of photos as training data: images with captions in .txt files of the same name, cut to sizes that a batch can share, encoded once,
 * and kept on disk. For restoration each cut also has a degraded counterpart, made here.
 * Aspect buckets: NovelAI, "Improvements on Stable Diffusion", 2022.
 */
import { UserError } from '../core/errors.ts';
import { TorchRandom } from '../core/random.ts';
import type { Files } from '../host/host.ts';
import { readTextFile } from '../host/text-file.ts';
import { crop } from '../image/compose.ts';
import { decode } from '../image/decode.ts';
import { type DegradationRanges, degrade, drawDegradation } from '../image/degrade.ts';
import { type Image, toUnit } from '../image/image.ts';
import { opaque } from '../image/opaque.ts';
import { PHOTO_NAME } from '../image/photo-names.ts';
import { resize } from '../image/resize.ts';
import { bytesSource } from '../weights/byte-source.ts';
import { openSafetensors } from '../weights/safetensors.ts';
import { checkSeal, encodeSealed } from '../weights/seal.ts';
import type { TrainingPicture } from './autoencoding.ts';
import type { TrainingImage } from './denoising.ts';

export interface DataOptions {
  /** Images are cut to about size x size pixels. */
  size: number;
  /** Sides are multiples of this: the model's image_multiple. */
  multiple: number;
  /** Cuts from each image: 0, the whole image scaled to a bucket near its shape; else so many squares at random places. Default 0. */
  crops?: number;
  /** Photos whose short side is longer are reduced to this many pixels before crops are cut; 0 leaves them. Default 0. */
  shortSide?: number;
  /** For images without a caption file; null refuses them. Default null. */
  caption?: string | null;
  /** How the counterparts for restoration are made; null for none. Default null. */
  degradation?: DegradationRanges | null;
  /** Of crops and degradations. */
  seed: number;
}

/** The networks that turn pictures and words into what is trained on; values in the layout of TrainingImage. */
export interface DataEncoder {
  /** Latents in unit scale, of the clean image by SDXL's encoder or of the degraded one by SUPIR's. */
  latent(image: Image, which: 'encoder' | 'denoise_encoder'): Promise<Pick<TrainingImage, 'shape' | 'mean' | 'deviation'>>;
  text(caption: string): Promise<Pick<TrainingImage, 'context' | 'vector'>>;
  /** What the results depend on beside images and captions: the model. Part of the cache's name. */
  identity: string;
}

export interface DataEvents {
  /** Called after every image that had to be encoded, or read as pixels. */
  onImage?(done: number, of: number, name: string): void;
  /** Called with what reading an image could not keep. */
  onNote?(name: string, note: string): void;
}

/**
 * The images of a folder, ready to train on, in order of their names. What was encoded before with the same options is read from `cache`.
 * Throws UserError for an empty folder, for images without captions (naming them) unless a caption is given, and for damaged images.
 */
export async function loadImages(
  files: Files,
  folder: string,
  cache: string,
  encoder: DataEncoder,
  options: DataOptions,
  events: DataEvents = {},
): Promise<TrainingImage[]> {
  const { names, images } = await imagesIn(files, folder);
  const captionFile = (image: string) => image.replace(PHOTO_NAME, '.txt');
  const silent = images.filter((image) => !names.includes(captionFile(image)));
  if (silent.length > 0 && (options.caption ?? null) === null) {
    const more = silent.length > 5 ? ` and ${silent.length - 5} more` : '';
    throw new UserError(
      `${folder}: ${silent.length} of ${images.length} images have no caption: ${silent.slice(0, 5).join(', ')}${more}. Write each into a .txt file of the same name, or give one caption for all that have none.`,
    );
  }
  const all: TrainingImage[] = [];
  for (const [i, name] of images.entries()) {
    const bytes = await files.readFile(`${folder}/${name}`);
    const caption = names.includes(captionFile(name))
      ? (await readTextFile(files, `${folder}/${captionFile(name)}`)).trim()
      : options.caption!;
    const path = `${cache}/${await fingerprint(bytes, JSON.stringify([name, caption, encoder.identity, options]))}.safetensors`;
    const kept = (await files.exists(path)) ? await readCached(await files.readFile(path), path) : null;
    if (kept) {
      all.push(...kept);
      continue;
    }
    const photo = await decode(bytes, name);
    if (photo.note) events.onNote?.(name, photo.note);
    const encoded = await encodeImage(photo, name, caption, encoder, { ...options, seed: options.seed + i });
    await files.writeFileAtomic(path, await writeCached(encoded));
    all.push(...encoded);
    events.onImage?.(i + 1, images.length, name);
  }
  return all;
}

/** The images of a folder as pixels, in order of their names; captions are not needed. Throws UserError for an empty folder and damaged images. */
export async function loadPictures(
  files: Files,
  folder: string,
  options: DataOptions,
  events: DataEvents = {},
): Promise<TrainingPicture[]> {
  const { images } = await imagesIn(files, folder);
  const all: TrainingPicture[] = [];
  for (const [i, name] of images.entries()) {
    const random = new TorchRandom(options.seed + i);
    const image = await decode(await files.readFile(`${folder}/${name}`), name);
    if (image.note) events.onNote?.(name, image.note);
    for (const [n, cut] of cutsOf(image, random, options).entries()) {
      const degraded = options.degradation ? degrade(cut, drawDegradation(random, options.degradation)) : null;
      const pixels = { pixels: toUnit(cut).data, ...(degraded ? { degraded: toUnit(degraded).data } : {}) };
      all.push({ name: `${name}#${n}`, shape: [cut.height, cut.width, 3], ...pixels });
    }
    events.onImage?.(i + 1, images.length, name);
  }
  return all;
}

async function imagesIn(files: Files, folder: string): Promise<{ names: string[]; images: string[] }> {
  const names = await files.list(folder);
  const images = names.filter((name) => PHOTO_NAME.test(name));
  if (images.length === 0)
    throw new UserError(
      `${folder} holds no images (PNG, JPEG, WebP, TIFF, AVIF, HEIC). Give a folder of photos, each with a .txt of its caption.`,
    );
  return { names, images };
}

async function encodeImage(
  image: Image,
  name: string,
  caption: string,
  encoder: DataEncoder,
  options: DataOptions,
): Promise<TrainingImage[]> {
  const random = new TorchRandom(options.seed);
  const text = await encoder.text(caption);
  const results: TrainingImage[] = [];
  for (const [n, cut] of cutsOf(image, random, options).entries()) {
    const latent = await encoder.latent(cut, 'encoder');
    const degraded = options.degradation ? degrade(cut, drawDegradation(random, options.degradation)) : null;
    const hint = degraded && (await encoder.latent(degraded, 'denoise_encoder')).mean;
    results.push({ name: `${name}#${n}`, ...latent, ...text, ...(hint ? { hint } : {}) });
  }
  return results;
}

/** The parts of an image that are trained on, each of a size that others share. */
export function cutsOf(photo: Image, random: TorchRandom, { size, multiple, crops = 0, shortSide = 0 }: DataOptions): Image[] {
  if (!(size >= multiple && size % multiple === 0))
    throw new UserError(`The training size ${size} must be a multiple of ${multiple} pixels.`);
  const image = opaque(photo);
  const fraction = () => random.rand(1)[0];
  if (crops === 0) {
    const { width, height } = bucketOf(image.width / image.height, size, multiple);
    const scaled = covering(image, width, height);
    return [crop(scaled, (scaled.width - width) >> 1, (scaled.height - height) >> 1, width, height)];
  }
  const short = Math.min(image.width, image.height);
  const wanted = Math.max(size, shortSide > 0 ? Math.min(short, shortSide) : short);
  const scaled = wanted === short ? image : covering(image, wanted, wanted);
  return Array.from({ length: crops }, () => {
    const place = (side: number) => Math.min(side - size, Math.floor(fraction() * (side - size + 1)));
    return crop(scaled, place(scaled.width), place(scaled.height), size, size);
  });
}

/** The size of at most size^2 pixels, sides multiples of `multiple`, whose shape is nearest to an image's. */
export function bucketOf(aspect: number, size: number, multiple: number): { width: number; height: number } {
  const area = (size / multiple) ** 2;
  let best = { width: size, height: size };
  const distance = ({ width, height }: typeof best) => Math.abs(Math.log(width / height / aspect));
  for (let columns = 1; columns <= area; columns++) {
    const candidate = { width: columns * multiple, height: Math.floor(area / columns) * multiple };
    const long = Math.max(candidate.width, candidate.height) <= 2 * size; // longer ones would be rare, and alone in their batch
    if (long && distance(candidate) < distance(best)) best = candidate;
  }
  return best;
}

/** The image scaled so that it just covers width x height. */
function covering(image: Image, width: number, height: number): Image {
  const scale = Math.max(width / image.width, height / image.height);
  return resize(image, Math.max(width, Math.round(image.width * scale)), Math.max(height, Math.round(image.height * scale)), 'bicubic');
}

async function fingerprint(bytes: Uint8Array<ArrayBuffer>, text: string): Promise<string> {
  const digest = async (data: Uint8Array<ArrayBuffer>) => new Uint8Array(await crypto.subtle.digest('SHA-256', data));
  const joined = new Uint8Array([...(await digest(bytes)), ...(await digest(new TextEncoder().encode(text)))]);
  return Array.from((await digest(joined)).subarray(0, 12), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

const ARRAYS = ['mean', 'deviation', 'hint', 'context', 'vector'] as const;

function writeCached(images: readonly TrainingImage[]): Promise<Uint8Array<ArrayBuffer>> {
  const tensors = images.flatMap((image, n) =>
    ARRAYS.flatMap((key) => {
      const data = image[key];
      const shape = data && (data.length === image.mean.length ? image.shape : [data.length]);
      return data && shape ? [[`${n}/${key}`, { dtype: 'F32' as const, shape, data }] as const] : [];
    }),
  );
  return encodeSealed(tensors, { names: JSON.stringify(images.map(({ name }) => name)) });
}

/** What was kept; null where it is damaged, and then made again. */
async function readCached(bytes: Uint8Array<ArrayBuffer>, path: string): Promise<TrainingImage[] | null> {
  const file = await openSafetensors(bytesSource(path, bytes)).catch(() => null);
  if (
    !file ||
    !(await checkSeal(file).then(
      () => true,
      () => false,
    ))
  )
    return null;
  const names = JSON.parse(file.metadata.get('names') ?? '[]') as string[];
  return Promise.all(
    names.map(async (name, n) => {
      const arrays = await Promise.all(
        ARRAYS.filter((key) => file.has(`${n}/${key}`)).map(async (key) => [key, await file.f32(`${n}/${key}`)]),
      );
      return { name, shape: file.info(`${n}/mean`).shape, ...Object.fromEntries(arrays) } as TrainingImage;
    }),
  );
}
