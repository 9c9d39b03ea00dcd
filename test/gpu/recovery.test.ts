/** Losses are counted, an adapter is waited for, and work goes on with smaller submits. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DeviceError } from '../../core/errors.ts';
import { input } from '../../core/tensor.ts';
import { type Device, openDevice } from '../../gpu/device.ts';
import { evaluate } from '../../gpu/program.ts';
import { deviceAfterLoss, Losses, onDevices } from '../../gpu/recovery.ts';
import { currentHost } from '../../host/current.ts';
import { softmax } from '../../kernels/softmax.ts';
import { FaultyGpu } from '../support/faulty-gpu.ts';
import { refusal } from '../support/refused.ts';

const host = await currentHost();
const faulty = new FaultyGpu(await host.gpu());
const open = (before: Device | null) => openDevice({ gpu: faulty.gpu, settle: host.settle, pace: before?.pace });
const x = softmax(input('x', [5, 7]));
const values = { x: Float32Array.from({ length: 35 }, (_, i) => Math.sin(i)) };
const waits = [0.01, 0.1];

test.before.each(() => faulty.mend());

test('three losses in a row are too many, and four within ten minutes', () => {
  const losses = new Losses();
  const lost = new DeviceError('gone', { code: 'device-lost' });
  losses.add(lost, 0);
  losses.add(lost, 1);
  assert.throws(
    () => losses.add(lost, 2),
    (error: DeviceError) => error.code === 'device-lost-again' && /lost 3 times.*\(gone\)/.test(error.message),
  );
  for (const [minute, fails] of [
    [20, false],
    [22, false],
    [25, false],
    [31, false],
    [32.1, false],
    [33, true],
  ] as const) {
    losses.progressed();
    const add = () => losses.add(lost, minute * 60_000);
    if (fails) assert.throws(add, /lost 4 times/);
    else add();
  }
});

test('a lost device is waited for while no adapter answers; its pace is slowed and inherited', async () => {
  faulty.faults = { loseAt: (submit) => submit === 1, nullFor: 50 };
  const told: DeviceError[] = [];
  let seconds = 0;
  const expected = await onDevices(
    open,
    async (device, attempt) => {
      assert.is(attempt, told.length);
      if (attempt === 0) seconds = device.pace.seconds;
      else assert.is(device.pace.seconds, seconds / 2);
      return evaluate(device, x, values);
    },
    { waits, lost: (error) => void told.push(error) },
  );
  assert.is(expected.length, 35);
  assert.equal([told.length, told[0].code, faulty.losses], [1, 'device-lost', 1]);
  assert.is(told[0].values?.placing, true, 'it was lost in the first run of a program');
  assert.is(faulty.refusedAdapters, 1);
});

test('where no adapter comes again that is told, and a person who stops need not wait', async () => {
  faulty.faults = { loseAt: () => true, nullFor: 1e6 };
  const error = (await refusal(onDevices(open, (device) => evaluate(device, x, values), { waits }))) as DeviceError;
  assert.is(error.code, 'no-adapter-again');
  assert.match(error.message, /The GPU was lost, and none answered/);
  faulty.mend();
  const device = await open(null);
  const stop = new AbortController();
  const again = deviceAfterLoss(device, () => open(device), { waits: [100], signal: stop.signal });
  stop.abort(new Error('stopped'));
  await again.then(
    () => assert.unreachable(),
    (error) => assert.is(error.message, 'stopped'),
  );
});

test('a device that is lost every time ends the work', async () => {
  faulty.faults = { loseAt: () => true };
  const error: DeviceError = await onDevices(open, (device) => evaluate(device, x, values), { waits }).catch((error) => error);
  assert.is(error.code, 'device-lost-again');
});

test.run();
