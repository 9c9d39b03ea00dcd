/** The check of an adapter: right where the adapter is, and telling where one is made to compute wrong. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DeviceError } from '../../core/errors.ts';
import type { ShaderSpec } from '../../core/shader.ts';
import { Device, openDevice } from '../../gpu/device.ts';
import { currentHost } from '../../host/current.ts';
import { flagsFor } from '../../host/node-adapters.ts';
import { checkAdapter } from '../../verify/adapter-check.ts';
import { kernelChecks } from '../../verify/kernel-checks.ts';
import { reportText } from '../../verify/report-text.ts';
import { testDevices } from '../support/device.ts';
import { FaultyGpu } from '../support/faulty-gpu.ts';

/** Checks that cost little to compile; and those with speed and probes. */
const FEW = /^(softmax|layer norm, f32|derivatives of softmax)/;
const MORE = /^(softmax|layer norm|geglu, f32|derivatives of softmax|speed|probes|restoration)/;

/** Opens second devices on the tests' GPU, whose closing leaves it open. */
async function opener(make: (device: Device) => Device = (device) => device) {
  const devices = await testDevices();
  return async (schedule: string) => {
    const found = schedule === 'auto' ? devices[0] : devices.find(({ facts }) => facts.schedule === schedule);
    if (!found || schedule === 'matrix') throw new DeviceError(`This adapter cannot run the ${schedule} schedule.`);
    const device = make(new Device(found.gpu, found.facts, found.settle));
    device.close = () => {};
    return device;
  };
}

test('an adapter that computes right is called good, and what it cannot follow is named', async () => {
  const seen: string[] = [];
  const report = await checkAdapter({
    open: await opener(),
    only: (name) => MORE.test(name),
    restoration: async () => 0.5,
    progress: (done, total, what) => {
      assert.ok(done <= total);
      seen.push(what);
    },
  });
  assert.is(report.verdict, 'good', report.why.join(' '));
  assert.equal(report.kernels.wrong, []);
  assert.ok(report.kernels.checked >= 6 && report.kernels.worst!.share! > 0);
  assert.ok('matrix' in report.schedules.left);
  assert.ok(report.speed!.matmul > 0 && report.speed!.download > 0);
  assert.ok(report.probes!.ulps.division < 3 && report.probes!.infiniteHalves);
  assert.ok(seen.some((what) => what.startsWith('softmax')));
  assert.is(report.interrupted, false);
});

/** Computes exp(x) as 2^x wherever a kernel calls it. */
class WrongDevice extends Device {
  override pipeline(spec: ShaderSpec): Promise<GPUComputePipeline> {
    return super.pipeline({ ...spec, code: spec.code.replaceAll(/\bexp\(/g, 'exp2(') });
  }
}

test('an adapter that computes wrong is called unusable, and what is wrong is named', async () => {
  const report = await checkAdapter({
    open: await opener((device) => new WrongDevice(device.gpu, device.facts, device.settle)),
    only: (name) => FEW.test(name),
  });
  assert.is(report.verdict, 'unusable');
  assert.ok(report.kernels.wrong.some(({ name, problem }) => name.startsWith('softmax') && /expected/.test(problem!)));
  assert.not.ok(report.kernels.wrong.some(({ name }) => name.startsWith('layer norm')));
  assert.match(report.why[0], /wrong in the schedule that this adapter would use/);
});

test('a restoration that differs, and a check that is stopped, are told', async () => {
  const differs = await checkAdapter({
    open: await opener(),
    only: (name) => /^(softmax, f32|restoration)/.test(name),
    restoration: async () => 3,
  });
  assert.is(differs.verdict, 'unusable');
  const stop = new AbortController();
  stop.abort();
  const stopped = await checkAdapter({ open: await opener(), only: (name) => FEW.test(name), signal: stop.signal });
  assert.is(stopped.interrupted, true);
  assert.is(stopped.kernels.checked, 0);
  assert.is(stopped.speed, null);
  assert.is(stopped.verdict, 'unfinished');
  assert.match(reportText(stopped, 'a test'), /^UNFINISHED/);
});

test('a check whose time is over ends with what it could look at', async () => {
  const left: (number | null)[] = [];
  const report = await checkAdapter({
    open: await opener(),
    only: (name) => FEW.test(name),
    seconds: 0,
    progress: (_done, _total, _what, secondsLeft) => left.push(secondsLeft),
  });
  assert.is(report.verdict, 'unfinished');
  assert.is(report.kernels.checked, 0);
  assert.ok(report.kernels.left >= 4);
  assert.match(report.why.join(' '), /checks were left out: the time was over/);
  assert.ok(left.length > 0 && left.every((seconds) => seconds === null));
});

/** Compiles what has an exponential for ever. */
class SlowDevice extends Device {
  override pipeline(spec: ShaderSpec): Promise<GPUComputePipeline> {
    return /^softmax/.test(spec.name) ? new Promise(() => {}) : super.pipeline(spec);
  }
}

test('a kernel that takes longer than there is time is left behind, and the rest of the check is as well', async () => {
  const report = await checkAdapter({
    open: await opener((device) => new SlowDevice(device.gpu, device.facts, device.settle)),
    only: (name) => /^(softmax|layer norm), f32|^restoration/.test(name),
    restoration: () => new Promise(() => {}),
    seconds: 1,
  });
  assert.is(report.verdict, 'unfinished');
  assert.ok(report.seconds < 6, `${report.seconds} s`);
  assert.ok(report.kernels.left >= 1, `${report.kernels.left} left`);
  assert.match(report.why.join(' '), /The time was over before the end of: a restoration/);
});

test('a GPU that is lost at a kernel is told, and the check goes on with another device', async () => {
  const host = await currentHost();
  const faulty = new FaultyGpu(await host.gpu());
  let opened = 0;
  const report = await checkAdapter({
    async open(schedule) {
      if (schedule === 'matrix') throw new DeviceError('This adapter cannot run the matrix schedule.');
      faulty.faults = { loseAt: () => ++opened === 1 };
      return openDevice({ gpu: faulty.gpu, settle: host.settle, schedule });
    },
    only: (name) => /^softmax, f/.test(name),
  });
  assert.is(faulty.losses, 1);
  assert.is(report.kernels.checked, 2 * report.schedules.checked.length);
  assert.is(report.kernels.wrong.length, 1);
  assert.is(report.verdict, 'unusable');
  assert.match(report.why.join(' '), /The GPU was lost at softmax, f32/);
});

test('the checks have a name each', () => {
  const names = [...kernelChecks()].map(({ name }) => name);
  assert.ok(names.length > 90);
  assert.is(new Set(names).size, names.length);
});

test('which GPU is meant: a number, a part of a name, or a refusal that lists them', () => {
  const adapters = [
    { number: 0, name: 'NVIDIA GeForce RTX 4060', backend: 'vulkan' },
    { number: 1, name: 'Intel(R) UHD Graphics 630', backend: 'vulkan' },
    { number: 2, name: 'llvmpipe (LLVM 15.0.6, 256 bits)', backend: 'vulkan' },
  ];
  assert.equal(flagsFor('1', adapters), ['adapter=Intel(R) UHD Graphics 630', 'backend=vulkan']);
  assert.equal(flagsFor('rtx', adapters), ['adapter=NVIDIA GeForce RTX 4060', 'backend=vulkan']);
  for (const none of ['7', 'radeon', ' '])
    assert.throws(() => flagsFor(none, adapters), /No GPU has the number or the name '.*'\. There are: 0: NVIDIA/);
  assert.throws(() => flagsFor('', [adapters[0]]), /No GPU has/);
  assert.equal(flagsFor(' uhd ', adapters), ['adapter=Intel(R) UHD Graphics 630', 'backend=vulkan']);
  assert.throws(() => flagsFor('l', adapters), /means several GPUs/);
  assert.throws(() => flagsFor('4060', [...adapters, { ...adapters[0], number: 3 }]), /only tell them apart by name/);
});

test.run();
