/** Damaged image files either decode or are refused with a UserError, in time. scripts/fuzz-image.ts does the same for longer. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decode } from '../../image/decode.ts';
import { fuzzImages, seedFiles } from './image-mutations.ts';

test('the undamaged files decode', async () => {
  for (const file of await seedFiles()) assert.ok((await decode(file, 'seed')).width > 0);
});

test('320 damaged files', async () => {
  const result = await fuzzImages(320, 1);
  assert.equal(result.failures, []);
  assert.is(result.decoded + result.refused, 320);
  assert.ok(result.decoded >= 30 && result.refused >= 100, JSON.stringify(result)); // both ends are exercised
});

test.run();
