/** Sampling that begins with a picture under noise: by every sampler, with the noise of the level that it begins at, and the steps before left out. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { chooseOptions } from '../../restore/choose-options.ts';
import { sampleDiffBir } from '../../restore/diffbir.ts';
import { DIFFBIR_SAMPLERS } from '../../restore/diffbir-options.ts';
import { SAMPLERS } from '../../restore/options.ts';
import { plannedSteps, sample, stepsLeftOut } from '../../restore/sampling.ts';
import type { Network } from '../../sampler/denoiser.ts';
import type { SamplerStep } from '../../sampler/sampler.ts';
import { alphasCumprod, NoiseSchedule } from '../../sampler/schedule.ts';

const SIZE = 4096;
const [STEPS, LEFT_OUT] = [10, 6];
const picture = Float32Array.from({ length: SIZE }, (_, i) => Math.sin(i));
const spread = (values: Float32Array) => Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length);

/** What the network is asked first, and the steps that are taken. */
async function taken(run: (network: Network, onStep: (step: SamplerStep) => void, noise: () => Float32Array) => Promise<Float32Array>) {
  const asked: Float32Array[] = [];
  const steps: SamplerStep[] = [];
  const random = new TorchRandom(5);
  const network: Network = async ({ x }) => {
    asked.push(x);
    return { negative: new Float32Array(SIZE), positive: new Float32Array(SIZE) };
  };
  const result = await run(
    network,
    (step) => void steps.push(step),
    () => random.randn(SIZE),
  );
  return { first: asked[0], steps, result };
}

for (const sampler of SAMPLERS) {
  test(`${sampler}: the first step sees the picture under the noise of its own sigma`, async () => {
    const options = chooseOptions({ sampler, steps: STEPS, start: 'photo', strength: 0.4, sChurn: 0, cfg: 1 }, SUPIR_SDXL);
    const { first, steps } = await taken((network, onStep, noise) =>
      sample(network, options, { noise, onStep, noiseEveryStep: false, center: picture, begin: picture }),
    );
    assert.equal(
      steps.map(({ step }) => step),
      [7, 8, 9, 10],
    );
    const schedule = new NoiseSchedule();
    const sigmas = { edm: schedule.steps(STEPS), dpmpp2m: schedule.karrasSteps(STEPS), euler: schedule.trailingSteps(STEPS) }[sampler];
    const [{ sigma }] = steps;
    assert.is(sigma, sigmas[LEFT_OUT]);
    // The network is given the latent at unit variance, by the nearest sigma it was trained with.
    const snapped = schedule.sigmas[schedule.nearest(sigma)];
    const noise = first.map((value, i) => value * Math.sqrt(1 + snapped ** 2) - picture[i]);
    assert.ok(Math.abs(spread(noise) / sigma - 1) < 0.03, `${spread(noise)} for ${sigma}`);
  });
}

for (const sampler of DIFFBIR_SAMPLERS) {
  test(`DiffBIR's ${sampler} leaves out the steps before, and begins with less than all noise`, async () => {
    const begin = { step: LEFT_OUT, latent: picture };
    const diffusion = { parameterization: 'eps' as const, alphasCumprod: alphasCumprod() };
    const { first, steps } = await taken((network, onStep, noise) =>
      sampleDiffBir(sampler, network, diffusion, { steps: STEPS, noise, cfg: 1, onStep, begin }),
    );
    assert.is(steps.length, steps[0].steps - LEFT_OUT);
    const { sigma } = steps[0];
    const share = 1 / Math.sqrt(1 + sigma ** 2);
    const noise = first.map((value, i) => value - share * picture[i]);
    assert.ok(sigma < 5 && Math.abs(spread(noise) / (share * sigma) - 1) < 0.05, `${spread(noise)} for sigma ${sigma}`);
  });
}

test('a run that begins with a picture goes on after a stop to the same values, and never leaves every step out', async () => {
  const options = chooseOptions({ steps: STEPS, start: 'stage1', strength: 0.5 }, SUPIR_SDXL);
  const whole = async (resume = {}) =>
    taken((network, onStep, noise) =>
      sample(network, options, { noise, onStep, noiseEveryStep: false, center: picture, begin: picture, ...resume }),
    );
  const undisturbed = await whole();
  const stopped = undisturbed.steps[2];
  const again = await whole({ startStep: stopped.step, latent: stopped.latent });
  assert.equal(again.result, undisturbed.result);
  assert.is(again.steps.length, 2);
  assert.is(stepsLeftOut({ start: 'photo', strength: 0.01 }, 10), 9);
  assert.is(stepsLeftOut({ start: 'photo', strength: 1 }, 10), 0);
  assert.is(stepsLeftOut({ start: 'noise', strength: 0.4 }, 10), 0);
  assert.is((await plannedSteps(options)).length, 5);
});

test('a strength without a picture to begin with is refused', () => {
  assert.throws(() => chooseOptions({ strength: 0.5 }, SUPIR_SDXL), /strength of 0\.5 is of a run that begins with a picture.*'start'/);
  assert.throws(() => chooseOptions({ start: 'stage1', strength: 0 }, SUPIR_SDXL), /'strength' is 0/);
});

test.run();
