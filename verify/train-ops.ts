/** The golden operation of training: AdamW on the factors of adapters of the plain UNet, a few steps. */
import { parameters } from '../core/module.ts';
import { input } from '../core/tensor.ts';
import { LoraStack } from '../models/lora.ts';
import { timestepEmbedding } from '../models/timestep-embedding.ts';
import { NoiseSchedule } from '../sampler/schedule.ts';
import { AdamW } from '../train/adamw.ts';
import { factorsOf, LORA_TARGETS, trainedAdapter } from '../train/lora.ts';
import { noiseLoss, noisy } from '../train/loss.ts';
import { TrainingStep } from '../train/step.ts';
import type { Operation, Results, VerifyContext } from './context.ts';
import { type CaseEntry, toChannelsFirst, toChannelsLast } from './golden.ts';

const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

async function loraTrain(entry: CaseEntry, context: VerifyContext): Promise<Results> {
  const { lr, zero_init, lam, rank, steps, betas, eps, weight_decay } = entry.config;
  const { networks: supir, device } = await context.model(entry);
  const unet = supir.model.diffusion_model;
  const prefix: string = entry.weights!.prefix!;

  const start = await context.folder.modelCheckpoint(entry.weights!.model!, ['lora_train_init']);
  const weights = [...parameters(unet)].map(([, parameter]) => parameter).filter(({ name }) => LORA_TARGETS.attention.test(name));
  const adapters = await Promise.all(
    weights.map(async (parameter) => {
      const key = `lora_train/init/${parameter.name.slice(prefix.length).replace(/\.weight$/, '')}`;
      const [outs, ins] = parameter.shape;
      const a = zero_init === 'A' ? new Float32Array(rank * ins) : await start.f32(`${key}.A`);
      const b = zero_init === 'B' ? new Float32Array(outs * rank) : await start.f32(`${key}.B`);
      return trainedAdapter(parameter, [a, b], 1);
    }),
  );
  const { factors, values } = factorsOf(adapters);

  const { unet: config } = supir.config;
  const given = async (name: string) => {
    const { data, shape } = await context.input(entry, name);
    const one = shape.slice(1);
    const size = data.length / shape[0];
    return { shape: one, step: (s: number) => ({ data: data.subarray(s * size, (s + 1) * size), shape: one }) };
  };
  const [x0, noise, text, vector] = [await given('x0'), await given('noise'), await given('context'), await given('y')];
  const levels = (await context.input(entry, 'sigma_idx')).data;
  const latent = toChannelsLast(x0.step(0)).shape;
  const schedule = new NoiseSchedule();

  const [x, timestep] = [input('x', latent), input('timestep', [1, config.model_channels])];
  const predicted = unet.forward(x, timestep, input('context', text.shape), input('vector', vector.shape), null);
  const { loss } = noiseLoss(predicted, input('noise', latent), input('weight', [1]));
  const stack = new LoraStack([{ adapters, scale: 1 }]);
  const adam = new AdamW(device, factors, values, { betas, epsilon: eps, weightDecay: weight_decay, lambda: lam });
  const step = await TrainingStep.compile(device, stack.apply({ loss, predicted }), adam);
  const results: Record<string, ArrayLike<number>> = {};
  const series = { loss_total: [] as number[], loss_eps: [] as number[], reg_sum_of_squares: [] as number[] };
  try {
    for (let s = 0; s < steps; s++) {
      const sigma = schedule.sigmas[levels[s]];
      const truth = toChannelsLast(noise.step(s)).data;
      const given = {
        x: noisy(toChannelsLast(x0.step(s)).data, truth, [sigma]),
        noise: truth,
        weight: Float32Array.of(1),
        timestep: timestepEmbedding([levels[s]], config.model_channels),
        context: Float32Array.from(text.step(s).data),
        vector: Float32Array.from(vector.step(s).data),
      };
      const { loss, squares, outputs } = await step.run(given, { share: 1, first: true });
      series.loss_eps.push(loss);
      series.reg_sum_of_squares.push(squares.weights);
      series.loss_total.push(loss + lam * squares.weights);
      if (s === 0) {
        const gradients = await adam.read('gradient');
        results['step0/pred'] = toChannelsFirst(outputs.predicted, latent);
        adapters.forEach(({ path }, i) => {
          results[`step0/grad/${path.slice(prefix.length)}.A`] = gradients[2 * i];
          results[`step0/grad/${path.slice(prefix.length)}.B`] = gradients[2 * i + 1];
        });
      }
      await adam.update(lr);
    }
    const final = await adam.read('weight');
    adapters.forEach(({ path }, i) => {
      results[`final/${path.slice(prefix.length)}.A`] = final[2 * i];
      results[`final/${path.slice(prefix.length)}.B`] = final[2 * i + 1];
    });
    return {
      ...results,
      ...series,
      final_norm_A: adapters.map((_, i) => norm(final[2 * i])),
      final_norm_B: adapters.map((_, i) => norm(final[2 * i + 1])),
    };
  } finally {
    step.dispose();
    await adam.dispose();
    stack.release(device);
  }
}

export const trainOperations: Record<string, Operation> = { lora_train: loraTrain };
