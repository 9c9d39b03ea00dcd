import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { drawnAhead, splitMoments } from '../../restore/latents.ts';

test('what is drawn ahead comes in the order of the draws, with and without time between them', async () => {
  let draws = 0;
  const next = drawnAhead(() => draws++);
  const pause = () => new Promise((resolve) => setTimeout(resolve, 5));
  const taken = [next(), next(), next()];
  await pause();
  assert.is(draws, 4); // one ahead
  taken.push(next());
  await pause();
  assert.is(draws, 5);
  taken.push(next(), next());
  assert.equal(taken, [0, 1, 2, 3, 4, 5]);
});

test('moments are split by pixels', () => {
  const { mean, logvar } = splitMoments({ shape: [1, 1, 3, 4], data: Float32Array.from({ length: 12 }, (_, i) => i) });
  assert.equal([...mean.data], [0, 1, 4, 5, 8, 9]);
  assert.equal([...logvar.data], [2, 3, 6, 7, 10, 11]);
  assert.equal(logvar.shape, [1, 1, 3, 2]);
});

test.run();
