/** A cleaner alone: an ESRGAN, BSRNet, SwinIR or SCUNet file enlarges or cleans a picture in one pass; nothing is sampled. */
import { UserError } from '../core/errors.ts';
import { input } from '../core/tensor.ts';
import { shown } from '../core/text.ts';
import type { Device } from '../gpu/device.ts';
import { checkSize, type Image } from '../image/image.ts';
import { opaque } from '../image/opaque.ts';
import { resizeBicubic } from '../image/resize.ts';
import { type Cleaner, type CleanerConfig, cleanerOf } from '../models/diffbir.ts';
import { defaultsOf } from '../options/schema.ts';
import { attach, expectedKeys } from '../weights/attach.ts';
import { Checkpoint } from '../weights/checkpoint.ts';
import type { FolderAccess } from '../weights/folder.ts';
import { chooseFrom } from './choose-options.ts';
import { cleanWith } from './cleaner.ts';
import { cleanedSizes, cleaningPlan, factorOf } from './cleaning.ts';
import { cleanPicture } from './diffbir.ts';
import { assessCleaner, cleanerTitle } from './diffbir-files.ts';
import { type DiffBirFolder, folderConfig, openDiffBirFolder } from './diffbir-model.ts';
import { CLEAN_OPTIONS, type CleanChoice } from './diffbir-options.ts';
import { Model, type ModelConfig } from './model.ts';
import type { Values } from './networks.ts';
import type { Method, ModelOptions, Size, Stage } from './stage.ts';

interface CleanConfig extends ModelConfig {
  cleaner: CleanerConfig;
}

/** Throws UserError where there is no cleaner in the folder. */
function configOf({ cleaner, others }: DiffBirFolder, path: string): CleanConfig {
  if (!cleaner) {
    const what = others.map(({ name, what }) => `${shown(name)}: ${what()}`).join(' ');
    throw new UserError(
      `${shown(path)} holds no cleaner: neither an ESRGAN or BSRNet, nor a SwinIR or SCUNet of DiffBIR.${what ? ` ${what}` : ''}`,
    );
  }
  const { file, config } = cleaner;
  return { name: `${cleanerTitle(config)}, ${shown(file.name)}`, image_multiple: 1, min_size: 1, cleaner: config };
}

/** ESRGAN's size, which most files have. */
const PUBLISHED: CleanConfig = {
  ...{ name: 'RRDBNet (ESRGAN, BSRNet), x4', image_multiple: 1, min_size: 1 },
  cleaner: { kind: 'rrdb', nf: 64, nb: 23, gc: 32, scale: 4 },
};

export class CleanModel extends Model<Cleaner> {
  readonly config: CleanConfig;

  private constructor(device: Device, networks: Cleaner, config: CleanConfig, checkpoint: Checkpoint) {
    super(device, networks, checkpoint);
    this.config = config;
  }

  /** Opens the cleaner of a folder, which may be DiffBIR's, or a file. Throws UserError where there is none, or it lacks weights. */
  static async openFolder(device: Device, access: FolderAccess, path: string, { weights }: ModelOptions = {}): Promise<CleanModel> {
    const folder = await openDiffBirFolder(access, path);
    try {
      const config = configOf(folder, path);
      const { file } = folder.cleaner!;
      const { cleaner } = config;
      const net = cleanerOf(cleaner);
      const wrong = [...expectedKeys(net)].find(([name, shape]) => !file.has(name) || String(file.info(name).shape) !== String(shape));
      if (wrong)
        throw new UserError(
          `${shown(file.name)} looks like a ${cleanerTitle(cleaner)} and is none that is known: "${wrong[0]}" is ${file.has(wrong[0]) ? `[${file.info(wrong[0]).shape}]` : 'missing'} and must be [${wrong[1]}].`,
        );
      const checkpoint = new Checkpoint([file]);
      attach(net, '', checkpoint, { dtype: weights });
      await folder.close('cleaner');
      return new CleanModel(device, net, config, checkpoint);
    } catch (error) {
      await folder.close();
      throw error;
    }
  }

  get baseNames(): readonly string[] {
    return [this.config.name];
  }
}

interface CleanMade {
  image: Values;
}

export interface CleanKind {
  model: CleanModel;
  options: CleanChoice;
  inputs: { photo: Image; result: Size };
  made: CleanMade;
}

const METHOD = { options: CLEAN_OPTIONS, presets: {} };

/** A network that enlarges is given the photo as it is; the others, the photo enlarged. */
const cleaningOf = ({ cleaner }: CleanConfig, { upscale }: CleanChoice) => {
  const factor = factorOf(cleaner);
  return { upscale: upscale || factor, cleanerEnlarges: factor > 1, minSide: 0 };
};

const CLEAN: Stage<CleanKind> = {
  name: 'clean',
  graph: 'cleaner',
  isSeeded: false,
  isTiled: true,
  build: (net, _, { width, height }) => ({ y: net.forward(input('x', [1, height, width, 3])) }),
  plan({ model: { device, networks: net, config }, options, photo, budget }) {
    const { read } = cleanedSizes(photo, config.cleaner, cleaningOf(config, options));
    return cleaningPlan(device, { net, config: config.cleaner }, read, options, 0, budget).stage;
  },
  async run({ model: { device, networks: net, config }, options, inputs: { photo, result }, events: { signal, trace } }) {
    const cleaner = { net, config: config.cleaner };
    const cleaning = cleaningOf(config, options);
    const { read } = cleanedSizes({ ...photo, result }, config.cleaner, cleaning);
    const { tiles } = cleaningPlan(device, cleaner, read, options, 0, device.residency.budget);
    const calls = { cleaner, clean: (image: Parameters<typeof cleanWith>[2]) => cleanWith(device, cleaner, image, { signal, tap: trace }) };
    const { cleaned, width, height } = await cleanPicture(calls, photo, { ...cleaning, result, cleanerTiles: tiles }, { signal });
    const { data } = resizeBicubic(cleaned, width, height, { antialias: true });
    return { image: { shape: [1, height, width, 3], data: data.map((value) => 2 * value - 1) } };
  },
};

export const CLEANER: Method<CleanKind> = {
  name: 'clean',
  ...METHOD,
  needs: 'an ESRGAN, SCUNet or SwinIR alone, a quick way to enlarge or clean',
  published: PUBLISHED,
  main: { graph: 'cleaner', title: 'The cleaner, which runs once' },
  plain: defaultsOf(CLEAN_OPTIONS),
  assess: assessCleaner,
  joined: () => null, // DiffBIR's joins them
  async recognises(access, path) {
    try {
      if (await folderConfig(access, path)) return false;
      const folder = await openDiffBirFolder(access, path);
      await folder.close();
      const isAlone = !folder.base && !folder.control && !folder.others.some(({ isOfModel }) => isOfModel);
      return folder.cleaner !== null && isAlone;
    } catch {
      return false; // who opens it in earnest tells why
    }
  },
  async config(access, path) {
    const folder = await openDiffBirFolder(access, path);
    try {
      return configOf(folder, path);
    } finally {
      await folder.close();
    }
  },
  open: CleanModel.openFolder,
  networks: ({ cleaner }) => cleanerOf(cleaner),
  choose: (given, config) => chooseFrom(METHOD, given, config),
  label: ({ upscale }) => (upscale > 0 ? `cleaned, ${upscale} times` : 'cleaned'),
  steps: async () => [],
  sizes(photo, options, config) {
    const { read, result } = cleanedSizes(photo, config.cleaner, cleaningOf(config, options));
    const factor = factorOf(config.cleaner);
    const name = photo.name ?? 'photo';
    checkSize(result.width, result.height, `${name}: the result`);
    const working = { width: factor * read.width, height: factor * read.height };
    checkSize(working.width, working.height, `${name}: the picture that the network makes`);
    return { working, result };
  },
  stages: () => [CLEAN],
  inputs: async (_, photo, { result }) => ({ photo: opaque(photo), result }),
  result: ({ image }) => ({ image: image!, stage1: image! }),
};
