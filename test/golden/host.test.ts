/** Golden cases of all that runs on the host: random numbers, embeddings, schedules, colour fix, pre- and post-processing, metrics. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { testDevice } from '../support/device.ts';
import { type GoldenCase, goldenCases, goldenContext, passGolden } from '../support/golden.ts';

/** Levels of 255 that resized bytes may be off, by operation: fewer than the cases accept. */
const LEVELS: Record<string, number> = { pil2tensor: 0, pil_resize: 0, upscale_image: 1, fix_resize: 1 };

function stricter(entry: GoldenCase): GoldenCase {
  const abs = LEVELS[entry.op];
  if (abs === undefined) return entry;
  return {
    ...entry,
    outputs: Object.fromEntries(Object.entries(entry.outputs).map(([name, output]) => [name, { ...output, abs, rel: 0 }])),
  };
}

const COUNTS = { rng: 10, embedders: 6, schedules: 34, colorfix: 9, prepost: 26, metrics: 10 };

for (const [component, count] of Object.entries(COUNTS)) {
  const cases = await goldenCases(component);
  for (const entry of cases) {
    test(`golden ${entry.id}`, async () => {
      const { notCompared } = await passGolden(stricter(entry), await goldenContext(await testDevice()));
      assert.equal(notCompared, []);
    });
  }
  test(`golden ${component}: all cases are there`, () => {
    assert.is(cases.length, count);
  });
}

test.run();
