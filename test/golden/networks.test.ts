/** Golden cases of all that runs on the device: each network by itself, the samplers with the networks, and whole restorations. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { VerifyContext } from '../../verify/context.ts';
import { testDevice } from '../support/device.ts';
import { goldenCases, goldenContext, passGolden } from '../support/golden.ts';

const COUNTS = { text_encoders: 9, vae: 8, zero_sft: 11, control: 2, unet: 10, sampler: 4, sampler_tiled: 4, end_to_end: 3 };

/** What samplers and restorations give in full: every step's latents and every stage. */
const ALL_STAGES = ['sampler', 'end_to_end'];

let context: VerifyContext;
let before: { buffers: number; bytes: number };

test.before(async () => {
  const device = await testDevice();
  context = await goldenContext(device);
  before = { ...device.memory };
});

test.after(() => context.dispose());

for (const [component, count] of Object.entries(COUNTS)) {
  const cases = await goldenCases(component);
  for (const entry of cases) {
    test(`golden ${entry.id}`, async () => {
      const { notCompared } = await passGolden(entry, context);
      if (ALL_STAGES.includes(component)) assert.equal(notCompared, []);
    });
  }
  test(`golden ${component}: all cases are there`, () => {
    assert.is(cases.length, count);
  });
}

test('after all of them, no buffer stays', async () => {
  const { memory } = await testDevice();
  assert.ok(memory.buffers > before.buffers, 'the weights are resident meanwhile');
  await context.dispose();
  assert.is(memory.buffers, before.buffers);
  assert.is(memory.bytes, before.bytes);
});

test.run();
