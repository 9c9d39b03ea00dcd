/** Golden cases with weights rounded to 8 and 4 bits: networks, adapters and a whole restoration keep to the errors that rounding accounts for. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VerifyContext } from '../../verify/context.ts';
import { runCase } from '../../verify/verify.ts';
import { testDevice } from '../support/device.ts';
import { goldenCases, goldenFolder } from '../support/golden.ts';

const CASES = [
  'text_encoders/clip_l_prompt0',
  'control/case0',
  'unet/case0_wrapper',
  'unet/case1_sdxl',
  'lora/unet_kohya',
  'end_to_end/default',
];

for (const [weights, least] of [
  ['q8', 0.002],
  ['q4', 0.05],
] as const) {
  test(`weights in ${weights}: ${CASES.join(', ')}`, async () => {
    const device = await testDevice();
    const before = device.memory.bytes;
    const context = new VerifyContext(await goldenFolder(), device, { weights });
    try {
      for (const id of CASES) {
        const entry = (await goldenCases(id.split('/')[0])).find((each) => each.id === id)!;
        const { status, reason, comparisons } = await runCase(entry, context);
        const [worst] = comparisons;
        assert.is(status, 'passed', `${id}: ${reason ?? `${worst.output} ${worst.error} of ${worst.accepted}`}`);
        assert.ok(worst.cosine! > 0.85 && worst.error > least, `${id}: ${worst.output} ${worst.error}: are the weights rounded at all?`);
      }
    } finally {
      await context.dispose();
    }
    assert.is(device.memory.bytes, before);
  });
}

test.run();
