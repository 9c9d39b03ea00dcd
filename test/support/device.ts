/** The device that all tests of a process share: pipelines take long to compile, so each is compiled once. */
import { type Device, openDevice } from '../../core/device.ts';
import { currentHost } from '../../host/current.ts';

let opened: Promise<Device> | undefined;

export function testDevice(): Promise<Device> {
  opened ??= currentHost().then(async (host) => openDevice({ gpu: await host.gpu(), settle: host.settle }));
  return opened;
}
