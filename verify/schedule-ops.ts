/** The golden operations of DiffBIR's noise schedules: tables, levels of the samplers and guidance scales, on the host. */
import { ddimTimesteps } from '../sampler/ddim.ts';
import { diffuse } from '../sampler/diffusion.ts';
import { dpmSolverLevels } from '../sampler/dpm-solver.ts';
import { edmSolverLevels } from '../sampler/edm-solvers.ts';
import { risingScale } from '../sampler/guidance.ts';
import { alphasCumprod } from '../sampler/schedule.ts';
import { spacedSteps } from '../sampler/spaced.ts';
import type { Operation } from './context.ts';

const tables = (config: { zero_snr: boolean }) => alphasCumprod({ zeroTerminalSnr: config.zero_snr });

export const scheduleOperations: Record<string, Operation> = {
  diffusion_tables: async ({ config }) => {
    const products = tables(config);
    return {
      betas: products.map((value, i) => 1 - value / (i ? products[i - 1] : 1)),
      alphas_cumprod: products,
      sqrt_alphas_cumprod: products.map(Math.sqrt),
      sqrt_one_minus_alphas_cumprod: products.map((value) => Math.sqrt(1 - value)),
    };
  },

  q_sample: async (entry, context) => {
    const [x0, noise, t] = await Promise.all(['x0', 'noise', 't'].map((name) => context.input(entry, name)));
    const products = tables(entry.config);
    const size = x0.data.length / t.data.length;
    const part = (data: Float64Array, i: number) => Float32Array.from(data.subarray(i * size, (i + 1) * size));
    return { x: Array.from(t.data).flatMap((level, i) => [...diffuse(part(x0.data, i), part(noise.data, i), products[level])]) };
  },

  spaced_schedule: async ({ config }) => {
    const steps = spacedSteps(tables(config), config.steps);
    return {
      timesteps: steps.map(({ timestep }) => timestep),
      sqrt_alphas_cumprod: steps.map(({ alphaCumprod }) => Math.sqrt(alphaCumprod)),
      sqrt_one_minus_alphas_cumprod: steps.map(({ alphaCumprod }) => Math.sqrt(1 - alphaCumprod)),
      posterior_variance: steps.map(({ posteriorVariance }) => posteriorVariance),
      posterior_mean_coef1: steps.map(({ posteriorMeanCoef1 }) => posteriorMeanCoef1),
      posterior_mean_coef2: steps.map(({ posteriorMeanCoef2 }) => posteriorMeanCoef2),
      sqrt_recip_alphas_cumprod: steps.map(({ alphaCumprod }) => Math.sqrt(1 / alphaCumprod)),
      sqrt_recipm1_alphas_cumprod: steps.map(({ alphaCumprod }) => Math.sqrt(1 / alphaCumprod - 1)),
    };
  },

  edm_schedule: async ({ config }) => {
    const { timesteps, sigmas } = edmSolverLevels(tables(config), config.steps);
    return { timesteps, sigmas };
  },

  ddim_schedule: async ({ config }) => {
    const products = tables(config);
    const timesteps = ddimTimesteps(products.length, config.steps);
    return {
      timesteps,
      alphas: timesteps.map((t) => products[t]),
      alphas_prev: timesteps.map((_, i) => products[i ? timesteps[i - 1] : 0]),
      sqrt_one_minus_alphas: timesteps.map((t) => Math.sqrt(1 - products[t])),
    };
  },

  dpm_solver_schedule: async ({ config }) => {
    const { kept, levels } = dpmSolverLevels(tables(config), config.steps);
    return {
      total_n: [kept],
      t: levels.map(({ t }) => t),
      model_t: levels.map(({ timestep }) => timestep),
      lambda: levels.map(({ lambda }) => lambda),
      alpha: levels.map(({ alpha }) => alpha),
      sigma: levels.map(({ sigma }) => sigma),
    };
  },

  diffbir_cfg_scale: async (entry, context) => {
    const { cfg_scale: scale, rescale_cfg: rescale } = entry.config;
    const { data } = await context.input(entry, 't');
    return { scale: Array.from(data, (t) => (rescale ? risingScale(scale, t) : scale)) };
  },
};
