/**
 * The check of the adapter in Deno, whose WebGPU is another one than Node's: `npx tsx scripts/check-adapter.ts [report.json]`. As `supir doctor --check`
 * otherwise; run by tsx it starts Deno with itself, and it is a script that Deno runs directly too.
 */
import { openDevice } from '../gpu/device.ts';
import { currentHost } from '../host/current.ts';
import { DEMO } from '../host/demo.ts';
import { checkAdapter } from '../verify/adapter-check.ts';
import { storedRestoration } from '../verify/demo-check.ts';
import { reportText } from '../verify/report-text.ts';
import { runDeno } from './deno.ts';

const args = process.argv.slice(2);
if (!('Deno' in globalThis)) process.exit(runDeno(new URL(import.meta.url), args));
const host = await currentHost();
const report = await checkAdapter({
  open: async (schedule) => openDevice({ gpu: await host.gpu(), settle: host.settle, schedule }),
  restoration: storedRestoration((name) => host.fileSource(`${DEMO}/${name}`)),
  progress: (done, total, what, secondsLeft) =>
    console.error(`${done} of ${total}  ${what}${secondsLeft === null ? '' : `, about ${Math.ceil(secondsLeft)} s left`}`),
});
if (args.length > 0) await host.writeFileAtomic(args[0], new TextEncoder().encode(`${JSON.stringify(report, null, 2)}\n`));
console.log(reportText(report, `Deno ${process.versions.deno}`));
process.exit(report.verdict === 'unusable' ? 1 : 0);
