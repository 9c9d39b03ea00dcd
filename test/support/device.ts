/** The devices that all tests of a process share: pipelines take long to compile, so each is compiled once. */

import type { Schedule } from '../../core/adapter.ts';
import { DeviceError } from '../../core/errors.ts';
import { Device, openDevice } from '../../gpu/device.ts';
import { currentHost } from '../../host/current.ts';

let opened: Promise<Device> | undefined;

export function testDevice(): Promise<Device> {
  opened ??= currentHost().then(async (host) => openDevice({ gpu: await host.gpu(), settle: host.settle }));
  return opened;
}

const others = new Map<Schedule, Promise<Device | null>>();

/**
 * testDevice(), and for each other schedule that its adapter can run a second device that follows it. The matrix schedule is emulated where the
 * adapter does not run it: on testDevice()'s own GPU.
 */
export async function testDevices(): Promise<Device[]> {
  const first = await testDevice();
  const devices = [first];
  for (const schedule of ['subgroup', 'tiled', 'matrix'] as const) {
    if (schedule === first.facts.schedule) continue;
    if (!others.has(schedule))
      others.set(
        schedule,
        open(schedule).then((device) => device ?? (schedule === 'matrix' ? emulated(first) : null)),
      );
    const other = await others.get(schedule);
    if (other) devices.push(other);
  }
  return devices;
}

function emulated({ gpu, facts, settle }: Device): Device {
  return new Device(gpu, { ...facts, schedule: 'matrix' }, settle);
}

async function open(schedule: Schedule): Promise<Device | null> {
  const host = await currentHost();
  try {
    return await openDevice({ gpu: await host.gpu(), settle: host.settle, schedule });
  } catch (error) {
    if (error instanceof DeviceError) return null;
    throw error;
  }
}
