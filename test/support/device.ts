/** The devices that all tests of a process share: pipelines take long to compile, so each is compiled once. */

import { MATRIX_FEATURE, type MatrixUnit, type Schedule } from '../../core/adapter.ts';
import { DeviceError } from '../../core/errors.ts';
import { Device, openDevice } from '../../gpu/device.ts';
import { currentHost } from '../../host/current.ts';
import { unitName } from '../../kernels/matrices.ts';

let opened: Promise<Device> | undefined;

export function testDevice(): Promise<Device> {
  opened ??= currentHost().then(async (host) => openDevice({ gpu: await host.gpu(), settle: host.settle }));
  return opened;
}

const others = new Map<Schedule, Promise<Device | null>>();

/** testDevice(), and for each other schedule that its adapter can run a second device that follows it. */
export async function testDevices(): Promise<Device[]> {
  const first = await testDevice();
  const devices = [first];
  for (const schedule of ['subgroup', 'tiled', 'matrix'] as const) {
    if (schedule === first.facts.schedule) continue;
    if (!others.has(schedule)) others.set(schedule, open(schedule));
    const other = await others.get(schedule);
    if (other) devices.push(other);
  }
  return devices;
}

const emulating = new Map<string, Promise<Device>>();

/** A device on testDevice()'s GPU that emulates a matrix unit. */
export function emulated(matrixUnit: MatrixUnit): Promise<Device> {
  const name = unitName(matrixUnit);
  if (!emulating.has(name))
    emulating.set(
      name,
      testDevice().then(({ gpu, facts, settle }) => {
        const features = new Set([...facts.features].filter((feature) => feature !== MATRIX_FEATURE));
        return new Device(gpu, { ...facts, features, schedule: 'matrix', matrixUnit }, settle);
      }),
    );
  return emulating.get(name)!;
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
