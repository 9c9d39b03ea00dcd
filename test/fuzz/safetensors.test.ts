import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fuzzSafetensors } from './safetensors.ts';

test('500 damaged files open or are refused with a UserError, and never anything else', async () => {
  const { opened, refused } = await fuzzSafetensors(500, 1);
  assert.is(opened + refused, 500);
  assert.ok(opened > 10 && refused > 250, `${opened} opened, ${refused} refused: the mutations reach both outcomes`);
});

test.run();
