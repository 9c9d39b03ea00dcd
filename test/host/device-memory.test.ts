/** Devices that were closed, or lost and replaced, are let go: none stays in memory, and no thread of the driver with it. */
import { readdirSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { input } from '../../core/tensor.ts';
import { type Device, openDevice } from '../../gpu/device.ts';
import { evaluate } from '../../gpu/program.ts';
import { host } from '../../host/node.ts';
import { square } from '../../kernels/unary.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
/** Devices of each kind; the last ones may still be on their way. */
const [DEVICES, FEW] = [30, 3];

const threads = (): number => (process.platform === 'linux' ? readdirSync('/proc/self/task').length : 0);

/** Opens devices one after the other, and ends each as told; how many are left. */
async function left(end: (device: Device) => void | Promise<void>): Promise<number> {
  let alive = 0;
  const gone = new FinalizationRegistry(() => alive--);
  const use = async () => {
    const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
    alive++;
    gone.register(device, null);
    assert.equal(await evaluate(device, square(input('x', [3])), { x: Float32Array.of(1, 2, 3) }), Float32Array.of(1, 4, 9));
    await end(device);
  };
  for (let i = 0; i < DEVICES; i++) await use();
  for (let i = 0; i < 20 && alive > FEW; i++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    collect();
  }
  return alive;
}

test('closed devices go', async () => {
  const before = threads();
  assert.ok((await left((device) => device.close())) <= FEW);
  assert.ok(threads() - before <= 2 * FEW, `${threads() - before} threads more`);
});

test('lost devices go once they are closed, as those that are replaced are', async () => {
  const before = threads();
  const lose = async (device: Device) => {
    device.gpu.destroy();
    await device.gpu.lost;
    device.close();
  };
  assert.ok((await left(lose)) <= FEW);
  assert.ok(threads() - before <= 2 * FEW, `${threads() - before} threads more`);
});

test.run();
