/** WebGPU computes at all on this host: one dispatch with a known result, waited for by the host's settle. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openDevice } from '../../gpu/device.ts';
import { currentHost } from '../../host/current.ts';
import { squares } from '../../host/smoke.ts';

test('a dispatch squares numbers', async () => {
  const host = await currentHost();
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
  const result = await squares(device.gpu, 1000, host.settle);
  assert.is(result.length, 1000);
  for (const [i, value] of result.entries()) assert.is(value, i * i);
  device.close();
});

test('settle passes values and rejections on', async () => {
  const { settle } = await currentHost();
  assert.is(await settle(Promise.resolve(7)), 7);
  const error = await settle(Promise.reject(new Error('no'))).catch((cause) => cause);
  assert.is(error.message, 'no');
});

test.run();
