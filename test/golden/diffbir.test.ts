/** DiffBIR's networks against recorded results of the published program with synthetic weights. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { VerifyContext } from '../../verify/context.ts';
import { OPERATIONS } from '../../verify/verify.ts';
import { testDevice } from '../support/device.ts';
import { goldenCases, goldenContext, passGolden } from '../support/golden.ts';

const COUNTS = {
  rrdb: 3,
  swinir: 8,
  scunet: 5,
  text: 3,
  vae: 5,
  control: 3,
  unet: 8,
  prepost: 10,
  sampler: 20,
  guidance: 4,
  end_to_end: 5,
};

let context: VerifyContext;

test.before(async () => {
  context = await goldenContext(await testDevice(), 'diffbir');
});

test.after(() => context.dispose());

for (const [component, count] of Object.entries(COUNTS)) {
  const cases = (await goldenCases(component, 'diffbir')).filter(({ op }) => op in OPERATIONS);
  for (const entry of cases) {
    test(`golden ${entry.id}`, async () => {
      await passGolden(entry, context);
    });
  }
  test(`golden ${component}: all cases are there`, () => {
    assert.is(cases.length, count);
  });
}

test('after all of them, no buffer of a network stays', async () => {
  const { memory } = await testDevice();
  const before = memory.buffers;
  await context.dispose();
  assert.is(memory.buffers, before);
});

test.run();
