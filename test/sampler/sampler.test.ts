import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { TorchRandom } from '../../core/random.ts';
import type { Network, NetworkInput } from '../../sampler/denoiser.ts';
import { sampleDpmpp2m } from '../../sampler/dpmpp-2m.ts';
import { type EdmOptions, sampleEdm } from '../../sampler/edm.ts';
import type { SamplerStep } from '../../sampler/sampler.ts';
import { NoiseSchedule } from '../../sampler/schedule.ts';
import { tileWeights, tileWindows } from '../../sampler/tiles.ts';

const schedule = new NoiseSchedule();

/** The exact noise prediction for latents that are normal with this mean and deviation, at every noise level. */
const MEAN = 0.7;
const DEVIATION = 1.3;
const predict = ({ x, timestep }: NetworkInput, mean: number): Float32Array => {
  const sigma = schedule.sigmas[timestep];
  const cIn = 1 / Math.sqrt(sigma ** 2 + 1);
  return x.map((v) => (sigma * (v / cIn - mean)) / (DEVIATION ** 2 + sigma ** 2));
};
const gaussian: Network = async (input) => ({ negative: predict(input, -MEAN), positive: predict(input, MEAN) });

function noiseOf(seed: number, size: number): () => Float32Array {
  const random = new TorchRandom(seed);
  return () => random.randn(size);
}

const base = (size = 64) => ({ steps: 20, cfg: 1, noise: noiseOf(1, size) });

const samplers = { edm: sampleEdm, dpmpp2m: sampleDpmpp2m };

function moments(values: Float32Array): [mean: number, deviation: number] {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return [mean, Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length)];
}

const farthest = (a: Float32Array, b: Float32Array) => a.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i])), 0);

async function refuses(promise: Promise<unknown>, message: RegExp): Promise<void> {
  const error = await promise.then(
    () => undefined,
    (e) => e,
  );
  assert.instance(error, UserError);
  assert.match((error as Error).message, message);
}

test('EDM without churn is Euler’s method: the known product of its steps', async () => {
  const start = noiseOf(1, 64)();
  const result = await sampleEdm(gaussian, schedule, base());
  const sigmas = schedule.steps(20);
  let factor = Math.sqrt(1 + sigmas[0] ** 2); // of the start's distance to the mean, apart from the mean itself
  let offset = -MEAN;
  for (let i = 0; i < 20; i++) {
    const kept = DEVIATION ** 2 / (DEVIATION ** 2 + sigmas[i] ** 2);
    const shrink = kept + (1 - kept) * (sigmas[i + 1] / sigmas[i]);
    factor *= shrink;
    offset *= shrink;
  }
  assert.ok(
    farthest(
      result,
      start.map((v) => MEAN + offset + factor * v),
    ) < 2e-5,
  );
});

test('EDM without churn converges to the exact flow of its equation, by first order', async () => {
  const sigma = schedule.sigmas[999];
  const exact = noiseOf(1, 64)().map((v) => MEAN + ((v * Math.sqrt(1 + sigma ** 2) - MEAN) * DEVIATION) / Math.hypot(DEVIATION, sigma));
  const error = async (steps: number) => farthest(await sampleEdm(gaussian, schedule, { ...base(), steps }), exact);
  const [e100, e200, e1000] = [await error(100), await error(200), await error(1000)];
  assert.ok(e1000 < 0.01, `${e1000}`);
  assert.ok(e100 / e200 > 1.8 && e100 / e200 < 2.1, `${e100} ${e200}`);
});

test('with noise added on the way the results are distributed as the data', async () => {
  for (const [name, result] of [
    ['edm', await sampleEdm(gaussian, schedule, { ...base(20000), steps: 400, sChurn: 20 })],
    ['dpmpp2m', await sampleDpmpp2m(gaussian, schedule, { ...base(20000), steps: 100 })],
  ] as const) {
    const [mean, deviation] = moments(result);
    assert.ok(Math.abs(mean - MEAN) < 0.03, `${name} mean ${mean}`);
    assert.ok(Math.abs(deviation - DEVIATION) < 0.03, `${name} deviation ${deviation}`);
  }
});

test('guidance: scale 0 is the negative branch, 1 the positive, 2 as far beyond', async () => {
  const mean = async (cfg: number) => moments(await sampleEdm(gaussian, schedule, { ...base(), cfg }))[0];
  const [negative, positive, beyond] = [await mean(0), await mean(1), await mean(2)];
  assert.ok(positive - negative > 1);
  assert.ok(Math.abs(beyond - positive - (positive - negative)) < 1e-5);
});

test('linear guidance and linear control run between their ends, one by the churned and one by the plain sigma', async () => {
  const seen: number[] = [];
  const steps: SamplerStep[] = [];
  const network: Network = (input) => {
    seen.push(input.controlScale);
    return gaussian(input);
  };
  await sampleEdm(network, schedule, {
    ...base(),
    sChurn: 2,
    cfg: 4,
    cfgStart: 1,
    controlScale: 1,
    controlStart: 0.25,
    onStep: (s) => void steps.push(s),
  });
  for (const [i, s] of steps.entries()) {
    assert.ok(Math.abs(s.sigmaHat - s.sigma * 1.1) < 1e-12);
    assert.ok(Math.abs(s.cfg - (4 - (3 * s.sigmaHat) / 14.6146)) < 1e-12);
    assert.ok(Math.abs(s.controlScale - (1 - (0.75 * s.sigma) / 14.6146)) < 1e-12);
    assert.is(seen[i], s.controlScale);
  }
  const constant: SamplerStep[] = [];
  await sampleDpmpp2m(gaussian, schedule, { ...base(), cfg: 3, controlScale: 0.4, onStep: (s) => void constant.push(s) });
  assert.ok(constant.every((s) => s.cfg === 3 && s.controlScale === 0.4));
});

test('the last step returns the denoised latent', async () => {
  for (const sample of Object.values(samplers)) {
    let last: SamplerStep | undefined;
    const result = await sample(gaussian, schedule, { ...base(), onStep: (s) => void (last = s) });
    assert.equal(result, last!.denoised);
    assert.is(result, last!.latent);
  }
});

test('restoration guidance holds the result near the center, less the higher its power', async () => {
  const center = noiseOf(5, 64)().map((v) => v + 10);
  const distance = async (restoreCfg: number) => farthest(await sampleEdm(gaussian, schedule, { ...base(), restoreCfg, center }), center);
  const [strong, weak, off] = [await distance(0.2), await distance(2), await distance(-1)];
  assert.ok(strong < weak && weak < off, `${strong} ${weak} ${off}`);
  const whole = await sampleEdm(gaussian, schedule, { ...base(), steps: 1, restoreCfg: 1, center });
  const plain = await sampleEdm(gaussian, schedule, { ...base(), steps: 1 });
  assert.equal(whole, plain); // the last step is never guided
});

test('the same seed gives the same bits', async () => {
  for (const sample of Object.values(samplers)) {
    const options = () => ({ ...base(), sChurn: 5, noise: noiseOf(3, 64) });
    assert.equal(await sample(gaussian, schedule, options()), await sample(gaussian, schedule, options()));
  }
});

test('a run resumed after any step ends in the same bits', async () => {
  for (const [name, sample] of Object.entries(samplers)) {
    const steps: SamplerStep[] = [];
    // Churn in some steps only, so that steps and draws are counted apart.
    const options = { steps: 6, cfg: 2, sChurn: 5, sTmin: 0.3, sTmax: 8 };
    const result = await sample(gaussian, schedule, { ...options, noise: noiseOf(3, 64), onStep: (s) => void steps.push(s) });
    for (let done = 1; done < 6; done++) {
      const { latent, denoised } = steps[done - 1];
      const later: number[] = [];
      const resumed = await sample(gaussian, schedule, {
        ...options,
        noise: noiseOf(3, 64),
        startStep: done,
        latent,
        denoised,
        onStep: (s) => void later.push(s.step),
      });
      assert.equal(resumed, result, `${name} after step ${done}`);
      assert.is(later[0], done + 1);
      assert.is(later.length, 6 - done);
    }
  }
});

test('noise is drawn only where it is used, unless asked for in every step', async () => {
  const draws = async (options: Partial<EdmOptions>) => {
    let count = 0;
    const next = noiseOf(1, 64);
    const noise = () => {
      count++;
      return next();
    };
    await sampleEdm(gaussian, schedule, { ...base(), ...options, noise });
    return count;
  };
  assert.is(await draws({}), 1);
  assert.is(await draws({ sChurn: 5 }), 21);
  assert.is(await draws({ noiseEveryStep: true }), 21);
  const inRange = schedule.steps(20).filter((s) => s >= 0.5 && s <= 5).length;
  assert.is(await draws({ sChurn: 5, sTmin: 0.5, sTmax: 5 }), 1 + inRange);
});

test('an abort stops before the next step, with the signal’s reason', async () => {
  for (const sample of Object.values(samplers)) {
    const abort = new AbortController();
    let steps = 0;
    const error = await sample(gaussian, schedule, {
      ...base(),
      signal: abort.signal,
      onStep: ({ step }) => {
        steps = step;
        if (step === 3) abort.abort(new Error('enough'));
      },
    }).catch((e) => e);
    assert.is(error.message, 'enough');
    assert.is(steps, 3);
  }
});

test('impossible options are refused before anything runs', async () => {
  let calls = 0;
  const network: Network = (input) => {
    calls++;
    return gaussian(input);
  };
  const edm = (options: Partial<EdmOptions>) => sampleEdm(network, schedule, { ...base(), ...options });
  for (const steps of [0, -1, 1.5, 1001, Number.NaN]) await refuses(edm({ steps }), /sampling steps/);
  await refuses(edm({ cfg: Number.NaN }), /cfg is NaN/);
  await refuses(edm({ cfg: -1 }), /cfg is -1/);
  await refuses(edm({ cfgStart: Number.POSITIVE_INFINITY }), /cfgStart/);
  await refuses(edm({ controlScale: -0.1 }), /controlScale/);
  await refuses(edm({ controlStart: Number.NaN }), /controlStart/);
  await refuses(edm({ sNoise: -1 }), /sNoise/);
  await refuses(edm({ sChurn: -1 }), /sChurn/);
  await refuses(edm({ sTmin: 2, sTmax: 1 }), /sTmin/);
  await refuses(edm({ restoreCfg: Number.NaN }), /restoreCfg/);
  await refuses(edm({ restoreCfg: 4 }), /center/);
  await refuses(edm({ restoreCfg: 4, center: new Float32Array(3) }), /64 values and got 3/);
  await refuses(edm({ startStep: 20, latent: new Float32Array(64) }), /resume after step 20/);
  await refuses(edm({ startStep: 2 }), /give both/);
  await refuses(edm({ latent: new Float32Array(64) }), /give both/);
  await refuses(edm({ startStep: 2, latent: new Float32Array(3) }), /different images/);
  await refuses(sampleDpmpp2m(network, schedule, { ...base(), startStep: 2, latent: new Float32Array(64) }), /denoised latent of step 2/);
  assert.is(calls, 0);
});

test('a network that answers with NaN or another size is named', async () => {
  const answer =
    (positive: Float32Array): Network =>
    async ({ x }) => ({ negative: x, positive });
  await refuses(sampleEdm(answer(new Float32Array(64).fill(Number.NaN)), schedule, base()), /not finite at timestep 999 \(positive/);
  await refuses(sampleDpmpp2m(answer(new Float32Array(3)), schedule, base()), /3 values for a latent of 64 in its positive/);
});

test('tiles cover a latent of any size, and a small one has one window', () => {
  for (const [h, w] of [
    [1, 1],
    [5, 7],
    [8, 8],
    [9, 30],
    [17, 8],
  ]) {
    const covered = new Uint8Array(h * w);
    for (const { y0, y1, x0, x1 } of tileWindows(h, w, 8, 5)) {
      assert.is(y1 - y0, Math.min(8, h));
      assert.is(x1 - x0, Math.min(8, w));
      for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) covered[y * w + x]++;
    }
    assert.ok(
      covered.every((n) => n > 0),
      `${h} x ${w}`,
    );
  }
  assert.equal(tileWindows(5, 7, 128, 64), [{ y0: 0, y1: 5, x0: 0, x1: 7 }]);
  assert.ok(tileWeights(5, 7).every((weight) => weight > 0));
  assert.throws(() => tileWindows(8, 8, 8, 9), /stride/);
  assert.throws(() => tileWindows(8, 8, 8, 0), /stride/);
});

test.run();
