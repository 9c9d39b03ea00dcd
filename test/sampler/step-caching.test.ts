/** Which steps reuse, and that samplers and listeners are told. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULTS, SAMPLERS } from '../../restore/options.ts';
import { plannedSteps, sample } from '../../restore/sampling.ts';
import type { SamplerStep } from '../../sampler/sampler.ts';
import { reusingSteps } from '../../sampler/step-caching.ts';

test('the share that was asked for reuses, evenly, and the first and the last step never do', () => {
  assert.equal(
    reusingSteps(10, 0.5)
      .map((reuse) => (reuse ? 'r' : 'w'))
      .join(''),
    'wrwrrwrwrw',
  );
  for (const count of [1, 2, 3, 7, 50, 1000]) {
    for (const share of [0, 0.1, 0.25, 0.5, 0.7, 0.9]) {
      const reuses = reusingSteps(count, share);
      assert.is(reuses.length, count);
      assert.is(reuses.filter(Boolean).length, Math.min(Math.round(share * count), Math.max(0, count - 2)), `${share} of ${count}`);
      assert.not.ok(reuses[0] || reuses[count - 1]);
      // Evenly: rows of steps that reuse differ by one at most.
      const rows = reuses
        .map((reuse) => (reuse ? 'r' : 'w'))
        .join('')
        .split('w')
        .slice(1, -1)
        .map((row) => row.length);
      assert.ok(Math.max(0, ...rows) - Math.min(1000, ...rows) <= 1, `${share} of ${count}: ${rows}`);
    }
  }
});

test('every sampler asks so, from the first step that is sampled on, and tells after which steps no run can begin', async () => {
  for (const sampler of SAMPLERS) {
    for (const start of ['noise', 'photo'] as const) {
      const options = { ...DEFAULTS, sampler, start, strength: 0.5, steps: 12, cache: 0.5 };
      const wanted = reusingSteps(start === 'photo' ? 6 : 12, 0.5);
      const planned = (await plannedSteps(options)).map(({ reuse }) => reuse);
      assert.equal(planned, wanted);
      const told: (boolean | undefined)[] = [];
      const zero = () => new Float32Array(1);
      const center = zero();
      await sample(async () => ({ negative: zero(), positive: zero() }), options, {
        ...{ noise: zero, noiseEveryStep: false, center, begin: start === 'photo' ? zero() : null },
        onStep: ({ leadsOn }: SamplerStep) => void told.push(leadsOn),
      });
      assert.equal(
        told.map((leadsOn) => leadsOn ?? false),
        [...wanted.slice(1), false],
      );
    }
  }
});

test.run();
