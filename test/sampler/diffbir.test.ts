/**
 * DiffBIR's schedules and samplers against complete recorded runs. The recorded predictions of the network are played back, so every other
 * number of a run (levels, scales, what the network is shown, the latent after each step) is the sampler's own.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { TorchRandom } from '../../core/random.ts';
import { sampleDdim } from '../../sampler/ddim.ts';
import type { Network } from '../../sampler/denoiser.ts';
import { type Diffusion, type DiffusionSamplerOptions, PARAMETERIZATIONS, type Parameterization } from '../../sampler/diffusion.ts';
import { sampleDpmSolver } from '../../sampler/dpm-solver.ts';
import {
  ancestral,
  EDM_SOLVERS,
  type EdmSolver,
  type EdmSolverOptions,
  edmSolverLevels,
  sampleEdmSolver,
} from '../../sampler/edm-solvers.ts';
import type { SamplerStep } from '../../sampler/sampler.ts';
import { alphasCumprod } from '../../sampler/schedule.ts';
import { sampleSpaced } from '../../sampler/spaced.ts';
import { scheduleOperations } from '../../verify/schedule-ops.ts';
import { runCase } from '../../verify/verify.ts';
import { checkGolden, type GoldenCase, goldenCases, goldenContext, goldenFile } from '../support/golden.ts';

const kinds = { linear: alphasCumprod(), zero: alphasCumprod({ zeroTerminalSnr: true }) };
const diffusion = (parameterization: Parameterization, zero: boolean): Diffusion => ({
  alphasCumprod: zero ? kinds.zero : kinds.linear,
  parameterization,
});

/** Runs the sampler that a golden case calls `kind`. */
function sample(kind: string, network: Network, process: Diffusion, options: EdmSolverOptions): Promise<Float32Array> {
  if (kind === 'spaced') return sampleSpaced(network, process, options);
  if (kind === 'ddim') return sampleDdim(network, process, options);
  if (kind === 'dpm++_m2') return sampleDpmSolver(network, process, options);
  return sampleEdmSolver(kind.replace('edm_', '') as EdmSolver, network, process, options);
}

for (const c of (await goldenCases('schedules', 'diffbir')).filter(({ op }) => op in scheduleOperations)) {
  test(`golden ${c.id}`, async () => {
    // No device is used: these operations are the host's.
    const report = await runCase(c, await goldenContext(null as never, 'diffbir'));
    assert.is(report.status, 'passed', JSON.stringify([report.reason, report.comparisons[0]]));
  });
}

const read = async (c: GoldenCase, name: string) => (await goldenFile(c.file, 'diffbir')).f32(name.split('#').pop()!);

for (const c of await goldenCases('sampler', 'diffbir')) {
  test(`golden ${c.id}`, async () => {
    const { kind, steps, cfg_scale: cfg, rescale_cfg: rescaleCfg, strength: controlScale, parameterization, zero_snr, ...rest } = c.config;
    const draws = [c.inputs.x_T, ...(c.noise ?? [])];
    const noise = await Promise.all(draws.map((name) => read(c, name)));
    const [batch] = (await goldenFile(c.file, 'diffbir')).info(c.inputs.x_T.split('#').pop()!).shape;
    let calls = 0;
    let drawn = 0;
    const network: Network = async ({ x, timestep, unguided }) => {
      const call = calls++;
      await checkGolden(c, `step${call}/x`, x, 'diffbir');
      await checkGolden(c, `step${call}/t`, new Array<number>(batch).fill(timestep), 'diffbir');
      const positive = await read(c, c.outputs[`step${call}/out_pos`].tensor);
      const hasNegative = `step${call}/out_neg` in c.outputs;
      // The program computes it in some solvers where the scale is exactly 1 and it has no effect.
      assert.ok(hasNegative || unguided, 'the negative branch is asked for nowhere where the program has none');
      return { positive, negative: hasNegative ? await read(c, c.outputs[`step${call}/out_neg`].tensor) : positive };
    };
    const result = await sample(kind, network, diffusion(parameterization, zero_snr), {
      ...{ steps, cfg, rescaleCfg, controlScale, noise: () => noise[drawn++] },
      ...{ sChurn: rest.s_churn, sTmin: rest.s_tmin, sTmax: rest.s_tmax, sNoise: rest.s_noise, eta: rest.eta, order: rest.order },
    });
    assert.is(drawn, draws.length, 'draws of noise');
    assert.is(`step${calls}/x` in c.outputs, false, 'evaluations');
    await checkGolden(c, 'final', result, 'diffbir');
  });
}

const MEAN = 0.7;
const DEVIATION = 1.3;

/** The exact prediction for latents that are normal with this mean and deviation, at any level between the two nearest. */
function exact({ alphasCumprod, parameterization }: Diffusion, mean: number): Network {
  return async ({ x, timestep }) => {
    const below = Math.min(Math.floor(timestep), 998);
    const a = alphasCumprod[below] + (timestep - below) * (alphasCumprod[below + 1] - alphasCumprod[below]);
    const [signal, spread] = [Math.sqrt(a), Math.sqrt(1 - a)];
    const variance = a * DEVIATION ** 2 + 1 - a;
    const predicted = x.map((v) => {
      const off = v - signal * mean;
      const eps = (spread * off) / variance;
      const clean = mean + (signal * DEVIATION ** 2 * off) / variance;
      return parameterization === 'eps' ? eps : signal * eps - spread * clean;
    });
    return { positive: predicted, negative: predicted };
  };
}

const names = ['spaced', 'ddim', 'dpm++_m2', ...Object.keys(EDM_SOLVERS).map((name) => `edm_${name}`)];

test('every sampler gives latents distributed as the data, for both predictions', async () => {
  for (const kind of names) {
    for (const parameterization of PARAMETERIZATIONS) {
      // The solvers in sigma begin at 10,000, where an eps model, which knows 14.6 at most, errs by its share of the noise.
      if (parameterization === 'eps' && kind.startsWith('edm_')) continue;
      const random = new TorchRandom(5);
      const process = diffusion(parameterization, parameterization === 'v');
      const result = await sample(kind, exact(process, MEAN), process, {
        ...{ steps: 100, cfg: 1, noise: () => random.randn(4000), order: 3 },
      });
      const mean = result.reduce((sum, v) => sum + v, 0) / result.length;
      const deviation = Math.sqrt(result.reduce((sum, v) => sum + (v - mean) ** 2, 0) / result.length);
      assert.ok(Math.abs(mean - MEAN) < 0.1, `${kind} ${parameterization}: mean ${mean}`);
      assert.ok(Math.abs(deviation - DEVIATION) < 0.1, `${kind} ${parameterization}: deviation ${deviation}`);
    }
  }
});

test('a run that was stopped goes on to the same latent', async () => {
  for (const kind of names) {
    const process = diffusion('v', true);
    const options = (): DiffusionSamplerOptions => {
      const random = new TorchRandom(3);
      return { steps: 7, cfg: 1, noise: () => random.randn(33) };
    };
    const steps: SamplerStep[] = [];
    const whole = await sample(kind, exact(process, MEAN), process, {
      ...{ ...options(), sChurn: 2, order: 4, onStep: (step) => void steps.push(step) },
    });
    for (const startStep of [1, 3, steps.length - 1]) {
      const { latent, history } = steps[startStep - 1];
      const resumed = await sample(kind, exact(process, MEAN), process, {
        ...{ ...options(), sChurn: 2, order: 4, startStep, latent, history },
      });
      assert.equal([...resumed], [...whole], `${kind} after ${startStep}`);
    }
  }
});

test('step counts at which the published program fails run; a model that cannot go with the schedule is refused', async () => {
  const process = diffusion('v', true);
  const options = (steps: number) => ({ steps, cfg: 1, noise: () => new Float32Array(4).fill(0.5) });
  for (const steps of [3, 9, 27, 36, 101, 251, 501]) {
    assert.ok((await sampleDdim(exact(process, MEAN), process, options(steps))).every(Number.isFinite), `${steps}`);
  }
  assert.ok((await sampleSpaced(exact(process, MEAN), process, options(1))).every(Number.isFinite));
  for (const solver of ['dpm++_2m_sde', 'dpm++_3m_sde'] as const) {
    assert.ok((await sampleEdmSolver(solver, exact(process, MEAN), process, options(1))).every(Number.isFinite), solver);
  }
  // DDIM comes to the level of noise alone with few numbers of steps only.
  const eps = diffusion('eps', true);
  assert.ok((await sampleDdim(exact(eps, MEAN), eps, options(4))).every(Number.isFinite));
  for (const [run, steps] of [
    [sampleSpaced, 4],
    [sampleDdim, 3],
  ] as const) {
    const error = await run(exact(process, MEAN), eps, options(steps)).then(
      () => undefined,
      (e) => e,
    );
    assert.instance(error, UserError);
    assert.match(error.message, /zero terminal SNR/);
  }
});

test('levels of the solvers in sigma are rounded as a table of float64 is: a step of -999 / n first', () => {
  const { timesteps } = edmSolverLevels(kinds.zero, 99);
  // 999 / 99 is no number of float64: 77 and 88 times it fall a little short of 777 and 888.
  assert.equal(
    [66, 77, 88].map((i) => timesteps[i]),
    [333, 221, 110],
  );
});

test('an ancestral step keeps its variance, and rounds to float32', () => {
  const { down, up } = ancestral(2, 1, 1);
  assert.ok(Math.abs(up - Math.sqrt(0.75)) < 1e-7);
  assert.ok(Math.abs(down - 0.5) < 1e-6);
  assert.equal(ancestral(1, 0, 1), { down: 0, up: 0 });
  // From 10,000 almost all of the next level is new noise, and what is left beside it cancels in float32.
  const next = Math.sqrt((1 - kinds.zero[666]) / kinds.zero[666]);
  const steep = ancestral(10000, next, 1);
  const wanted = next ** 2 / 10000;
  assert.ok(Math.abs(steep.down - wanted) / wanted > 0.01 && Math.abs(steep.down - wanted) / wanted < 0.9, `${steep.down} ${wanted}`);
});

test.run();
