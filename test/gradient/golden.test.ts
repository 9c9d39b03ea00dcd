/** Golden cases of gradients of every block. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { testDevice } from '../support/device.ts';
import { goldenCases, goldenContext, passGolden } from '../support/golden.ts';

const device = await testDevice();
const before = { ...device.memory };
const context = await goldenContext(device);
const cases = await goldenCases('grads');

for (const entry of cases) test(`golden ${entry.id}`, async () => void (await passGolden(entry, context)));

test('all cases are there, and no buffer stays', async () => {
  assert.is(cases.length, 24);
  await context.dispose();
  assert.is(device.memory.buffers, before.buffers);
  assert.is(device.memory.bytes, before.bytes);
});

test.run();
