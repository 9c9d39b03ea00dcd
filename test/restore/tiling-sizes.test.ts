/** How the autoencoder is divided, planned for every size up to 100 megapixels; nothing is run. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ShapeError } from '../../core/errors.ts';
import { WeightLedger } from '../../core/placement.ts';
import type { Tensor } from '../../core/tensor.ts';
import type { Device } from '../../gpu/device.ts';
import { SUPIR_SDXL, type VaeConfig } from '../../models/config.ts';
import { Vae } from '../../models/vae.ts';
import { forecastAutoencoder, VAE_TILING } from '../../restore/tiled-vae.ts';

/** The demo model's. */
const DEMO: VaeConfig = { ch: 24, ch_mult: [1, 2, 4], num_res_blocks: 1, z_channels: 16, norm_groups: 8, scale_factor: 0.89411 };

/** A device of which only facts and limits are asked: WebGPU's own default for bindings. */
const small = (software: boolean): Device =>
  ({
    facts: {
      vendor: '',
      architecture: '',
      device: '',
      description: '',
      software,
      schedule: software ? 'subgroup' : 'tiled',
      features: new Set(software ? ['subgroups'] : []),
      subgroupSizes: software ? [8, 8] : [0, 0],
    },
    gpu: { limits: { maxStorageBufferBindingSize: 2 ** 27, minUniformBufferOffsetAlignment: 256 } },
  }) as unknown as Device;

/** Work of one program at most: a quarter of a TFLOP, and what the borders of a tile add. */
const MOST_GFLOP = 300;

test('any picture of up to 100 megapixels fits bindings of 128 MiB and a budget of 2 GB, of the demo model and of the published one', () => {
  const budget = 2e9;
  const taken: Record<string, number> = {};
  for (const [number, [name, config]] of [['published', SUPIR_SDXL.vae] as const, ['demo', DEMO] as const].entries()) {
    const model = new Vae(config);
    const factor = 2 ** (config.ch_mult.length - 1);
    for (let i = 0; i < 100; i++) {
      if ((i >> 1) % 2 !== number) continue; // the models take turns
      // From 64 x 64 to 16384 x 6100 in equal factors, every third one on its side and every fourth one a strip.
      const side = (most: number) => Math.max(64, Math.round((64 * (most / 64) ** (i / 99)) / 64) * 64);
      const size = i % 4 === 3 ? [64, side(16384)] : [Math.min(6080, side(6100)), side(16384)];
      const [height, width] = i % 3 === 2 ? size.reverse() : size;
      const latent = [1, height / factor, width / factor, config.z_channels];
      const runs = [
        ['encoder', (x: Tensor) => model.encode(x), [1, height, width, 3]],
        ['decoder', (z: Tensor) => model.decode(z), latent],
      ] as const;
      for (const [half, build, shape] of runs) {
        // Exact tiles of every other size, which for the largest is what `auto` does not choose.
        const tiling = { ...VAE_TILING, how: i % 2 ? ('exact' as const) : ('auto' as const) };
        const { how, programs, weighed } = forecastAutoencoder(small(i % 5 === 0), half, build, shape, tiling, budget);
        const ledger = new WeightLedger();
        ledger.budget = budget;
        const title = `${name} ${half}, ${width} x ${height}, ${how}`;
        for (const { plan, beside } of programs) {
          const { placement } = ledger.admit(plan, beside, 256);
          ledger.leave(placement);
          const gflop = plan.dispatches.reduce((sum, { flops }) => sum + flops, 0) / 1e9;
          assert.ok(how === 'whole' || gflop < MOST_GFLOP, `${title}: ${gflop} GFLOP in a tile`);
        }
        if (weighed) assert.is(how === 'published', weighed.exact > Math.max(2 * weighed.published, 8000), title);
        taken[how] = (taken[how] ?? 0) + 1;
      }
    }
  }
  assert.ok(taken.whole > 10 && taken.exact > 100 && taken.published > 10, JSON.stringify(taken));
});

test('a picture that does not fit whole is refused in words about the picture', () => {
  const model = new Vae(SUPIR_SDXL.vae);
  const shape = [1, 375, 500, 4];
  assert.throws(
    () => forecastAutoencoder(small(false), 'decoder', (z) => model.decode(z), shape, { ...VAE_TILING, how: 'off' }, 2e9),
    (error: Error) =>
      error instanceof ShapeError && /^A picture of 4000 x 3000 pixels is too large to be decoded in one piece/.test(error.message),
  );
});

test.run();
