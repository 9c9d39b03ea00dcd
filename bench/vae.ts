/**
 * `npm run bench -- vae`: the autoencoder's decoder or one of its encoders on a picture, whole or in tiles, with synthetic weights: time, traffic between
 * processor and GPU, and waiting. Another checkout's library may be measured in place of this one's.
 */
import { TorchRandom } from '../core/random.ts';
import { attachSynthetic, checkoutAt } from './checkout.ts';
import { countTraffic, type Traffic } from './traffic.ts';
import { configOf } from './unet.ts';
import { type Worker, workClock } from './work-clock.ts';

export interface VaeOptions {
  config?: string;
  /** Side of the latent, in latent pixels. */
  latent: number;
  half: 'decoder' | 'encoder';
  tiling: 'auto' | 'exact' | 'published' | 'off';
  /** Runs, each told by itself; a driver compiles in the first. */
  rounds: number;
  /** Folder of the checkout whose library runs. Default: this one. */
  library?: string;
  /** Bytes of GPU memory that may be used. Default: no limit. */
  memory?: number;
}

export interface VaeRun extends Traffic {
  wallMs: number;
  workMs: number;
}

export interface VaeResult {
  what: string;
  adapter: string;
  worker: Worker;
  runs: VaeRun[];
  /** Bytes of GPU memory in use at most. */
  peakBytes: number;
  /** Of the result, for comparison with another checkout's: its root mean square, and some of its values. */
  rms: number;
  values: number[];
}

export async function benchVae({ config: folder, latent, half, tiling, rounds, library, memory }: VaeOptions): Promise<VaeResult> {
  const config = await configOf(folder);
  const { library: from, host, part, weights } = await checkoutAt(library);
  const { runAutoencoder, VAE_TILING } = await part<typeof import('../restore/tiled-vae.ts')>('restore/tiled-vae.ts');
  const device = await from.openDevice({ gpu: await host.gpu(), settle: host.settle });
  if (memory !== undefined) device.residency.budget = memory;
  const vae = new from.Supir(config).first_stage_model;
  attachSynthetic(vae, '', weights);

  const factor = 2 ** (config.vae.ch_mult.length - 1);
  const shape = half === 'decoder' ? [1, latent, latent, config.vae.z_channels] : [1, factor * latent, factor * latent, 3];
  const x = { shape, data: new TorchRandom(1).randn(shape.reduce((product, each) => product * each)) };
  const traffic = countTraffic(device.gpu);
  const clock = workClock(device);
  const runs: VaeRun[] = [];
  let data: Float32Array = new Float32Array(0);
  for (let round = 0; round < rounds; round++) {
    let wallMs = 0;
    const workMs = await clock.time(async () => {
      const begun = performance.now();
      const y = await runAutoencoder(device, half, (z) => (half === 'decoder' ? vae.decode(z) : vae.encode(z)), x, {
        ...VAE_TILING,
        how: tiling,
      });
      wallMs = performance.now() - begun;
      data = y.data;
    });
    runs.push({ wallMs, workMs, ...traffic.taken() });
  }
  const result = {
    what: `${config.name}, ${half}, ${factor * latent} x ${factor * latent} pixels, tiling ${tiling}`,
    adapter: device.facts.description || device.facts.device,
    worker: clock.worker,
    runs,
    peakBytes: device.memory.peak,
    rms: Math.sqrt(data.reduce((sum, value) => sum + value * value, 0) / data.length),
    values: Array.from({ length: 5 }, (_, i) => data[Math.floor(((i + 0.5) / 5) * data.length)]),
  };
  device.close();
  return result;
}

/** The figures as lines for a person. */
export function vaeTable({ what, adapter, worker, runs, peakBytes, rms, values }: VaeResult): string {
  const s = (ms: number) => `${(ms / 1000).toFixed(2)} s`;
  const mb = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
  return [
    `${what}, on ${adapter}; ${mb(peakBytes)} of GPU memory in use at most`,
    ...runs.map(
      (r) =>
        `${s(r.wallMs)}, ${s(r.workMs)} of ${worker} time; ${mb(r.up)} up, ${mb(r.down)} down; ${r.readbacks} results and ${r.fences} ends of submits waited for, ${r.submits} submits`,
    ),
    `root mean square ${rms}, values ${values.join(' ')}`,
  ].join('\n');
}
