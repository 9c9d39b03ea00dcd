/**
 * The samplers against complete recorded runs. The recorded denoised latent of each step is played back in place of the networks, so every
 * other number of the run (noise levels, scales, the latent before and after each step) is the sampler's own.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Network } from '../../sampler/denoiser.ts';
import { sampleDpmpp2m } from '../../sampler/dpmpp-2m.ts';
import { sampleEdm } from '../../sampler/edm.ts';
import { linearScale } from '../../sampler/guidance.ts';
import type { SamplerOptions, SamplerStep } from '../../sampler/sampler.ts';
import { NoiseSchedule } from '../../sampler/schedule.ts';
import { checkGolden, type GoldenCase, goldenCases, goldenFile } from '../support/golden.ts';

const schedule = new NoiseSchedule();

/** Far tighter than the recorded tolerances, which leave room for a network's own errors. */
const TOLERANCE = { abs: 2e-5, rel: 1e-5 };

const read = async (c: GoldenCase, name: string) => (await goldenFile(c.file)).f32(name);

const check = (c: GoldenCase, output: string, actual: ArrayLike<number>) =>
  checkGolden({ ...c, outputs: { [output]: { ...c.outputs[output], ...TOLERANCE } } }, output, actual);

for (const c of await goldenCases('sampler')) {
  test(`golden ${c.id}`, async () => {
    const { config } = c;
    const draws = [c.inputs.noised_z, ...c.noise!];
    const noise = await Promise.all(draws.map((name) => read(c, name)));
    const center = await read(c, c.inputs.x_center);
    const network: Network = async ({ x, timestep, controlScale }) => {
      const step = steps.length;
      const sigma = schedule.sigmas[timestep];
      const unscaled = x.map((v) => v * Math.sqrt(sigma ** 2 + 1));
      await check(c, `step${step}/x_in`, unscaled);
      await check(c, `step${step}/control_scale`, [controlScale]);
      const denoised = await read(c, c.outputs[`step${step}/denoised`].tensor);
      const eps = unscaled.map((v, i) => (v - denoised[i]) / sigma);
      return { negative: eps, positive: eps };
    };
    const steps: SamplerStep[] = [];
    let drawn = 0;
    const options: SamplerOptions = {
      steps: config.steps,
      noise: () => noise[drawn++],
      cfg: config.cfg,
      cfgStart: config.cfg_start,
      controlScale: config.control_scale,
      sNoise: config.s_noise,
      onStep: (step) => {
        steps.push(step);
      },
    };
    const result =
      config.kind === 'RestoreEDMSampler'
        ? await sampleEdm(network, schedule, {
            ...options,
            sChurn: config.s_churn,
            restoreCfg: config.restore_cfg,
            restoreSigmaMin: config.restore_cfg_s_tmin,
            controlStart: config.linear_control ? config.control_start : undefined,
            center,
          })
        : await sampleDpmpp2m(network, schedule, options);
    assert.is(steps.length, config.steps);
    assert.is(drawn, draws.length, 'draws of noise');
    for (const [i, { step, sigmaHat, cfg, denoised, latent }] of steps.entries()) {
      assert.is(step, i + 1);
      assert.is(cfg, linearScale(config.cfg_start, config.cfg, sigmaHat));
      await check(
        c,
        `step${i}/sigma_in`,
        Array.from({ length: config.B }, () => sigmaHat),
      );
      await check(c, `step${i}/denoised`, denoised);
      await check(c, `step${i}/x_next`, latent);
    }
    await check(c, 'final', result);
  });
}

test.run();
