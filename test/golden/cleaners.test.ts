/** DiffBIR's cleaners against recorded results of the published program with synthetic weights. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { cleanerOperations } from '../../verify/cleaner-ops.ts';
import type { VerifyContext } from '../../verify/context.ts';
import { testDevice } from '../support/device.ts';
import { goldenCases, goldenContext, passGolden } from '../support/golden.ts';

const COUNTS = { rrdb: 3, swinir: 6, scunet: 5 };

let context: VerifyContext;

test.before(async () => {
  context = await goldenContext(await testDevice(), 'diffbir');
});

test.after(() => context.dispose());

for (const [component, count] of Object.entries(COUNTS)) {
  const cases = (await goldenCases(component, 'diffbir')).filter(({ op }) => op in cleanerOperations);
  for (const entry of cases) {
    test(`golden ${entry.id}`, async () => {
      await passGolden(entry, context);
    });
  }
  test(`golden ${component}: all cases are there`, () => {
    assert.is(cases.length, count);
  });
}

test('after all of them, no buffer of a cleaner stays', async () => {
  const { memory } = await testDevice();
  const before = memory.buffers;
  await context.dispose();
  assert.is(memory.buffers, before);
});

test.run();
