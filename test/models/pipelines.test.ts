/** What the published model asks of a GPU. Programs: each costs a driver up to seconds, so shapes are uniforms and few serve the whole. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AdapterFacts } from '../../core/adapter.ts';
import { shaderSource } from '../../core/shader.ts';
import { input, type Tensor } from '../../core/tensor.ts';
import { plan } from '../../kernels/fusion.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { Supir } from '../../models/supir.ts';
import { FACTS, HALVES, LIMITS } from '../support/facts.ts';

const MOST = 60;
const SCHEDULES: Partial<AdapterFacts>[] = [
  { schedule: 'tiled' },
  { schedule: 'matrix', matrixUnit: HALVES },
  { schedule: 'subgroup', subgroupSizes: [8, 8] },
];

for (const facts of SCHEDULES) {
  test(`all of the published SUPIR compiles at most ${MOST} pipelines, with guidance and without, ${facts.schedule}`, () => {
    const supir = new Supir(SUPIR_SDXL);
    const { first_stage_model, conditioner } = supir;
    // Small enough for one binding; larger images run in tiles of such sizes.
    const image = input('image', [1, 256, 320, 3]);
    const graphs: Record<string, Tensor>[] = [
      { first: first_stage_model.encode(image, 'denoise_encoder'), again: first_stage_model.encode(image, 'encoder') },
      { x: first_stage_model.decode(input('z', [1, 32, 40, 4])) },
      { ...conditioner.forward() },
      supir.denoiserGraph([1, 32, 40, 4], 77, 1),
      supir.denoiserGraph([1, 32, 40, 4], 77, 2),
    ];
    const sources = new Set<string>();
    for (const graph of graphs) {
      for (const { shader } of plan(graph, { ...FACTS, ...facts }, LIMITS).dispatches) sources.add(shaderSource(shader));
    }
    assert.ok(sources.size > 20 && sources.size <= MOST, `${sources.size} pipelines`);
  });
}

test('a step of 1024 x 1024 pixels with guidance binds no more than WebGPU lets everyone bind', () => {
  const supir = new Supir(SUPIR_SDXL);
  assert.is(LIMITS.maxStorageBufferBindingSize, 2 ** 27);
  for (const facts of SCHEDULES)
    assert.not.throws(() => plan(supir.denoiserGraph([1, 128, 128, 4], 77, 2), { ...FACTS, ...facts }, LIMITS));
});

test.run();
