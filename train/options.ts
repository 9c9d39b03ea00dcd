/**
 * What a person may choose for a training. To add an option, add it here, and use it: types, checks, flags, settings files and docs/options.md follow.
 */
import { DEGRADATION } from '../image/degrade.ts';
import { choice, flag, integer, names, number, numbers, type OptionValues, text, texts } from '../options/schema.ts';
import { WEIGHT_DTYPES } from '../weights/attach.ts';
import { LORA_TARGETS, type LoraTargetName } from './lora.ts';

/** The headings that options are shown under, in order. */
export const TRAINING_GROUPS = {
  training: 'Training',
  optimizer: 'Optimizer',
  data: 'Data',
  run: 'Saving and judging',
  damage: 'Damage, for restoration',
  adapter: 'LoRA',
  network: 'Parts of the model',
} as const;

export const MODES = ['denoising', 'restoration'] as const;
export type Mode = (typeof MODES)[number];

const MOST = 1e9;

/** Options of every training. Those of the loss and the optimiser are the training's own and stand in its state; the others are about its surroundings. */
export const TRAINING = {
  mode: choice(MODES, {
    group: 'training',
    of: 'mode',
    default: null,
    otherwise: 'restoration for the denoise encoder and the control network, else denoising',
    help: 'what the loss sees: SDXL alone, or the whole of SUPIR on degraded photos',
  }),
  steps: integer(1, MOST, { group: 'training', default: 1000, help: 'updates' }),
  batch: integer(1, 4096, { group: 'training', default: 1, help: 'photos in a pass' }),
  accumulate: integer(1, MOST, { group: 'training', default: 1, help: 'passes in an update' }),
  rate: number(1e-12, 100, { group: 'optimizer', default: 1e-4, aliases: ['learningRate'], help: 'learning rate' }),
  warmup: integer(0, MOST, { group: 'optimizer', default: 0, help: 'steps up to the learning rate' }),
  decay: choice(['constant', 'cosine'], { group: 'optimizer', of: 'course', default: 'constant', help: 'of the learning rate' }),
  betas: numbers(0, 1 - 2 ** -24, { group: 'optimizer', of: 'b1,b2', count: 2, default: [0.9, 0.999], help: "decay of AdamW's moments" }),
  weightDecay: number(0, 100, { group: 'optimizer', default: 0.01, help: "AdamW's" }),
  lambda: number(0, 1e6, { group: 'optimizer', default: 0, help: 'weight of the sum of squares of what is trained in the loss' }),
  clip: number(0, 1e9, { group: 'optimizer', of: 'norm', default: 1, help: 'largest norm of the gradient; 0 for none' }),
  ema: number(0, 1, { group: 'optimizer', of: 'decay', default: null, help: 'saves a moving average of the weights, commonly 0.999' }),
  minSnr: number(1e-6, 1e6, { group: 'training', of: 'gamma', default: null, help: 'min-SNR weighting, commonly 5' }),
  noiseOffset: number(-10, 10, { group: 'training', default: 0, help: 'shifts whole channels of the noise, commonly 0.05' }),
  seed: integer(0, Number.MAX_SAFE_INTEGER, { group: 'training', default: 1, help: 'of all that is drawn' }),
  size: integer(8, 8192, {
    group: 'data',
    of: 'pixels',
    default: null,
    otherwise: '64, or 512 for published models',
    help: 'side of the training images',
  }),
  crops: integer(0, 1e6, { group: 'data', default: 0, help: 'square crops from each photo; 0 takes the whole photo, scaled' }),
  shortSide: integer(0, 65536, {
    group: 'data',
    of: 'pixels',
    default: 0,
    help: 'with crops: larger photos are reduced to this short side first; 0 leaves them',
  }),
  caption: text({ group: 'data', default: null, help: 'for photos without a caption' }),
  name: text({ group: 'run', of: 'name', default: null, otherwise: 'what is trained', help: "the result's file name" }),
  validation: text({ group: 'run', of: 'folder', default: null, help: 'photos to judge by; the best result by them is kept too' }),
  sample: texts({
    group: 'run',
    of: 'photos',
    default: [],
    help: 'photos that are damaged and restored at every validation, as pictures of the progress',
  }),
  saveEvery: integer(1, MOST, { group: 'run', default: 100, help: 'steps between saves' }),
  validateEvery: integer(1, MOST, { group: 'run', default: 100, help: 'steps between validations' }),
  checkpointing: flag({
    group: 'run',
    default: true,
    help: 'compute activations again where gradients need them: half the memory, slower',
    off: 'keep all activations: faster, about twice the memory',
  }),
  resume: flag({ group: 'run', default: false, help: 'go on from the state in the folder' }),
  json: flag({ group: 'run', default: false, help: 'a JSON line a step' }),
  ...DEGRADATION,
};
export type TrainingChoice = OptionValues<typeof TRAINING>;

/** Options of a LoRA's training beside those. */
export const LORA = {
  rank: integer(1, 4096, { group: 'adapter', default: 8, help: 'columns of A and B' }),
  alpha: number(-1e6, 1e6, { group: 'adapter', default: null, otherwise: 'rank', help: 'the change is multiplied by alpha / rank' }),
  targets: names(Object.keys(LORA_TARGETS) as LoraTargetName[], {
    group: 'adapter',
    default: ['attention', 'feedForward', 'projection'],
    help: 'which layers',
  }),
  zero: choice(['A', 'B'], { group: 'adapter', of: 'factor', default: 'B', help: 'which factor starts at zero' }),
  weights: choice(WEIGHT_DTYPES, {
    group: 'adapter',
    of: 'dtype',
    default: null,
    otherwise: 'as the files hold them',
    help: 'how the weights of the model lie in memory: f16, or rounded to blocks of 8 or 4 bits',
  }),
  format: choice(['kohya', 'peft'], { group: 'adapter', of: 'layout', default: 'kohya', help: 'names in the file' }),
  dtype: choice(['f16', 'f32'], { group: 'adapter', of: 'type', default: 'f16', help: 'of the file' }),
};
export type LoraChoiceOfTraining = OptionValues<typeof LORA>;

/** Options of the autoencoder's training beside those. */
export const AUTOENCODER = {
  kl: number(0, 1e6, { group: 'network', default: 1e-6, help: "weight of the latents' KL divergence" }),
};
