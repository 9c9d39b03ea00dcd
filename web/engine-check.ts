/** The check of the adapter, as `supir doctor --check` makes it. Loaded when a person asks for it. */
import { openDevice } from '../gpu/device.ts';
import type { Host } from '../host/host.ts';
import { checkAdapter } from '../verify/adapter-check.ts';
import { storedRestoration } from '../verify/demo-check.ts';
import { reportText } from '../verify/report-text.ts';
import { bytesSource } from '../weights/byte-source.ts';
import type { CallContext } from './call-context.ts';
import type { AdapterChoice, CheckEvent, CheckResult } from './protocol.ts';

/** Checks what `choice` asks for, with the demo model's stored result where the site has it. A check that is stopped tells what it found. */
export async function check(host: Host, choice: AdapterChoice, { emit, signal }: CallContext<CheckEvent>): Promise<CheckResult> {
  const { powerPreference } = choice;
  const stored = await fetch(new URL('../demo/reference.safetensors', import.meta.url)).catch(() => null);
  const reference = stored?.ok ? new Uint8Array(await stored.arrayBuffer()) : null;
  const open = async (name: string) => (name === 'reference.safetensors' ? bytesSource(name, reference!) : host.fileSource(`demo/${name}`));
  const report = await checkAdapter({
    open: async (schedule) => {
      const wanted = schedule === 'auto' ? choice.schedule : schedule;
      return openDevice({
        gpu: await host.gpu(),
        settle: host.settle,
        screen: host.screen,
        chooseMatrixUnit: host.chooseMatrixUnit,
        powerPreference,
        schedule: wanted,
      });
    },
    restoration: reference ? storedRestoration(open) : undefined,
    progress: (done, total, what, secondsLeft) => emit({ done, total, what, secondsLeft }),
    signal,
  });
  const { verdict, why } = report;
  return { verdict, why, text: reportText(report, navigator.userAgent) };
}
