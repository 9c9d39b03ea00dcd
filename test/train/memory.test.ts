/** What a training step of the demo model costs, as planned: memory with and without checkpointing, and arithmetic beside the forward pass. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parameters } from '../../core/module.ts';
import { input } from '../../core/tensor.ts';
import { plan } from '../../kernels/fusion.ts';
import { wholeOf } from '../../kernels/weight-part.ts';
import { parseConfig } from '../../models/config.ts';
import { LoraStack } from '../../models/lora.ts';
import { Supir } from '../../models/supir.ts';
import { factorsOf, newAdapters } from '../../train/lora.ts';
import { noiseLoss } from '../../train/loss.ts';
import { derivatives } from '../../train/step.ts';
import { FACTS, LIMITS } from '../support/facts.ts';
import { projectFile } from '../support/fixtures.ts';

test('batch 4 of 32 x 32 latents, rank 8: checkpointing halves the memory, and a step is at most 3.5 forward passes', async () => {
  const config = parseConfig(JSON.parse(new TextDecoder().decode(await projectFile('demo/config.json'))), 'config.json');
  const supir = new Supir(config);
  for (const [path, parameter] of parameters(supir)) parameter.name = path;
  const { unet, text } = config;
  const { diffusion_model, control_model } = supir.model;
  const weights = [...parameters(diffusion_model)].map(([, parameter]) => parameter);
  const adapters = newAdapters(weights, { rank: 8, targets: ['attention', 'feedForward', 'projection'], seed: 1 });
  const latent = (name: string) => input(name, [4, 32, 32, unet.in_channels]);
  const x = latent('x');
  const timestep = input('timestep', [4, unet.model_channels]);
  const context = input('context', [4, text.context_length, unet.context_dim]);
  const vector = input('vector', [4, unet.adm_in_channels]);
  const control = { features: control_model.forward(x, latent('hint'), timestep, context, vector), scale: 1 };
  const predicted = diffusion_model.forward(x, timestep, context, vector, control);
  const { loss } = new LoraStack([{ adapters, scale: 1 }]).apply(noiseLoss(predicted, latent('noise'), input('weight', [4])));
  const { factors } = factorsOf(adapters);
  const forward = plan({ loss }, FACTS, LIMITS);
  const [kept, checkpointed] = [false, true].map((checkpointing) =>
    plan({ loss, ...Object.fromEntries(derivatives(loss, [...new Set(factors.map(wholeOf))], checkpointing).entries()) }, FACTS, LIMITS),
  );
  const share = checkpointed.bytes.intermediates / kept.bytes.intermediates;
  assert.ok(share <= 0.5, `${checkpointed.bytes.intermediates} bytes are ${share} of ${kept.bytes.intermediates}`);
  assert.ok(
    checkpointed.flops > kept.flops && checkpointed.flops <= 3.5 * forward.flops,
    `${checkpointed.flops / forward.flops} forward passes`,
  );
});

test.run();
