import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fuzzTorch } from './torch.ts';

test('3000 damaged PyTorch checkpoints open and read whole, or are refused with a UserError', async () => {
  const { opened, refused, partly } = await fuzzTorch(3000, 1);
  assert.is(opened + refused + partly, 3000);
  assert.ok(refused > 1500 && opened > 100 && partly > 5, `${refused} refused, ${opened} opened, ${partly} partly`);
});

test.run();
