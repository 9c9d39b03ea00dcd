/** `npm run bench -- ops|unet|vae|lora|train|submits|gpu|against`: how quick the kernels are. See --help. */
import { parseArgs } from 'node:util';
import { VAE_TILINGS } from '../restore/tiled-vae.ts';
import { againstTable, benchAgainst } from './against.ts';
import { MissingTools } from './gpu/driver.ts';
import { benchGpu, gpuTable } from './gpu/judge.ts';
import { benchLora, loraLine } from './lora.ts';
import { benchOps, type OpResult } from './ops.ts';
import { benchSubmits, submitsTable } from './submits.ts';
import { benchTrain, trainTable } from './train.ts';
import { benchUnet, unetTable } from './unet.ts';
import { benchVae, type VaeOptions, vaeTable } from './vae.ts';

const HELP = `npm run bench -- ops [part of a name]   operations beside other libraries (npm --prefix bench/peers install)
npm run bench -- unet                   a whole evaluation of UNet and control network, kernel by kernel
npm run bench -- vae                    the autoencoder's decoder, whole or in tiles: time, traffic and waiting
npm run bench -- lora                   the same without and with adapters on every attention projection of the UNet
npm run bench -- train                  a step of training adapters, or with --vae the autoencoder, beside the forward pass, and its memory
npm run bench -- submits                how long submits take beside their budget, what cutting costs, and the same bits
npm run bench -- gpu [part of a name]   kernels compiled for AMD GPUs by Mesa's RADV: registers, spills, waves, share of arithmetic
npm run bench -- against <checkout> ops|unet|vae|train|demo|page [part of a name]
                                        another checkout of this project beside this one, whole processes taking turns
  --rounds <n>        runs whose median counts (default 5; others 3)
  --config <folder>   others: sizes of that folder's config.json, such as demo (default: the published model's, 8 GB)
  --latent <pixels>   others: side of the latent (default 32)
  --diffbir           unet: DiffBIR's UNet and control network instead of SUPIR's
  --guided            unet: both branches of prompt guidance
  --memory <GB>       unet, vae: GPU memory that may be used; weights that do not fit are streamed
  --block <width>     lora: a single transformer block of that width, such as 640
  --rank <n>          lora, train: rank of the adapters of a layer together (default 32)
  --adapters <n>      lora: how many (default 1)
  --batch <n>         train: images of a step (default 4)
  --vae               train: the autoencoder instead of adapters
  --budget <s>        submits: seconds that a submit may take (default 0.25)
  --tiling <how>      vae: auto, exact, published or off (default: auto)
  --encoder           vae: the encoder instead of the decoder
  --library <folder>  vae: a checkout whose library runs in place of this one's
  --gpus <names>      gpu: by RADV's names (default: navi31,navi21)
  --json              figures as JSON`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    config: { type: 'string' },
    latent: { type: 'string', default: '32' },
    block: { type: 'string' },
    rank: { type: 'string', default: '32' },
    adapters: { type: 'string', default: '1' },
    batch: { type: 'string', default: '4' },
    vae: { type: 'boolean', default: false },
    budget: { type: 'string', default: '0.25' },
    diffbir: { type: 'boolean', default: false },
    guided: { type: 'boolean', default: false },
    memory: { type: 'string' },
    tiling: { type: 'string', default: 'auto' },
    encoder: { type: 'boolean', default: false },
    library: { type: 'string' },
    gpus: { type: 'string', default: 'navi31,navi21' },
  },
});
const memory = values.memory === undefined ? {} : { memory: Number(values.memory) * 1e9 };
const [what = '', pattern = ''] = positionals;
const AGAINST = ['ops', 'unet', 'vae', 'train', 'demo', 'page'];

function line({ operation, library, ms, wallMs, gflops, error, failure }: OpResult): string {
  const name = `${operation.padEnd(36)} ${library.padEnd(31)}`;
  if (failure) return `${name} ${failure}`;
  const figures = [ms.toFixed(1), wallMs.toFixed(1), gflops === null ? '' : gflops.toFixed(1)].map((text) => text.padStart(9));
  return `${name} ${figures.join(' ')}   ${error.toExponential(1)}`;
}

const isTiling = (name: string): name is VaeOptions['tiling'] => (VAE_TILINGS as readonly string[]).includes(name);

const benchmarks: Record<string, () => Promise<void>> = {
  async ops() {
    if (!values.json) console.log(`${'operation'.padEnd(36)} ${'library'.padEnd(31)}   busy ms   wall ms   GFLOP/s   error`);
    await benchOps(pattern, Number(values.rounds ?? 5), (result) => console.log(values.json ? JSON.stringify(result) : line(result)));
  },
  async unet() {
    const result = await benchUnet({
      ...{ config: values.config, latent: Number(values.latent), rounds: Number(values.rounds ?? 3) },
      ...{ method: values.diffbir ? 'diffbir' : 'supir', branches: values.guided ? 2 : 1 },
      ...memory,
    });
    console.log(values.json ? JSON.stringify(result) : unetTable(result));
  },
  async vae() {
    const { config, tiling, library } = values;
    if (!isTiling(tiling)) throw new Error(`--tiling takes ${VAE_TILINGS.join(', ')}, not '${tiling}'.`);
    const [latent, rounds] = [values.latent, values.rounds ?? '3'].map(Number);
    const result = await benchVae({ config, latent, rounds, tiling, library, ...memory, half: values.encoder ? 'encoder' : 'decoder' });
    console.log(values.json ? JSON.stringify(result) : vaeTable(result));
  },
  async lora() {
    const [latent, rounds, rank, adapters] = [values.latent, values.rounds ?? '3', values.rank, values.adapters].map(Number);
    const block = values.block === undefined ? undefined : Number(values.block);
    const result = await benchLora({ config: values.config, block, latent, rounds, rank, adapters });
    console.log(values.json ? JSON.stringify(result) : loraLine(result));
  },
  async train() {
    const [latent, rounds, rank, batch] = [values.latent, values.rounds ?? '3', values.rank, values.batch].map(Number);
    const result = await benchTrain({ config: values.config, part: values.vae ? 'vae' : 'lora', latent, rounds, rank, batch });
    console.log(values.json ? JSON.stringify(result) : trainTable(result));
  },
  async submits() {
    const [latent, rounds, budget] = [values.latent, values.rounds ?? '3', values.budget].map(Number);
    const result = await benchSubmits({ config: values.config, latent, rounds, budget });
    console.log(values.json ? JSON.stringify(result) : submitsTable(result));
  },
  async gpu() {
    const results = benchGpu(values.gpus.split(','), pattern, console.error);
    console.log(values.json ? JSON.stringify(results) : gpuTable(results));
  },
  async against() {
    const [, checkout, which = '', part = ''] = positionals;
    if (!AGAINST.includes(which)) throw new Error(`against takes the other checkout's folder and one of ${AGAINST.join(', ')}.`);
    const results = await benchAgainst(checkout, which, part, Number(values.rounds ?? 5), (round) => console.error(`round ${round}`));
    console.log(values.json ? JSON.stringify(results) : againstTable(results));
  },
};

if (values.help || !(what in benchmarks)) {
  console.log(HELP);
  process.exit(values.help ? 0 : 2);
}
try {
  await benchmarks[what]();
} catch (error) {
  if (!(error instanceof MissingTools)) throw error;
  console.error(error.message);
  process.exit(1);
}
process.exit(0);
