/** `doctor`: what computes here, which GPUs there are, and with --check whether this one computes right. */

import { Command, InvalidArgumentError } from 'commander';
import { openDevice } from '../gpu/device.ts';
import { DEMO } from '../host/demo.ts';
import { gpus, host } from '../host/node.ts';
import { doctor, RUNTIME } from './doctor.ts';
import { onInterrupt } from './interrupt.ts';
import { duration } from './progress.ts';

interface DoctorOptions {
  json?: boolean;
  list?: boolean;
  check?: boolean;
  report?: string;
  minutes?: number;
}

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('Says which adapter computes here, what it offers, and what to type when none does.')
    .option('--list', 'list the GPUs that there are, with the numbers that --gpu takes')
    .option('--check', 'compare every kind of kernel with plain loops in f64, in every schedule that this adapter can follow; some minutes')
    .option('--report <file>', 'with --check: write the whole report as JSON')
    .option('--minutes <n>', 'with --check: minutes after which it ends (default: 3 on a GPU, 8 where the processor computes)', minutes)
    .option('--json', 'print a JSON object')
    .addHelpText(
      'after',
      `
Examples:
  $ supir doctor
  $ supir doctor --list
  $ supir doctor --check --report my-gpu.json
  $ supir doctor --check --gpu 1

Exit codes: 0 it computes, 1 --check found an adapter that cannot be trusted, 2 bad option, 3 no adapter, 130 stopped.`,
    )
    .action(async (options: DoctorOptions) => {
      if (options.list) await list(options);
      else if (options.check) process.exitCode = await check(options);
      else process.exitCode = await doctor(options.json ? ['--json'] : []);
    });
}

function minutes(given: string): number {
  const number = Number(given);
  if (!(number > 0)) throw new InvalidArgumentError('It must be a number above 0, such as 10.');
  return number;
}

async function list({ json }: DoctorOptions): Promise<void> {
  const found = await gpus();
  if (json) console.log(JSON.stringify(found, null, 2));
  else if (found.length === 0) console.log('No GPU, and no driver that stands in for one.');
  else for (const { number, name, backend } of found) console.log(`${number}  ${name}  (${backend})`);
}

async function check({ json, report: path, minutes: most }: DoctorOptions): Promise<number> {
  const { checkAdapter } = await import('../verify/adapter-check.ts');
  const { storedRestoration } = await import('../verify/demo-check.ts');
  const { reportText } = await import('../verify/report-text.ts');
  const clear = () => void (process.stderr.isTTY && process.stderr.write('\r\x1b[K'));
  const stop = onInterrupt(clear, 'what is printed is what had been found.');
  const report = await checkAdapter({
    open: async (schedule) => openDevice({ gpu: await host.gpu(), settle: host.settle, chooseMatrixUnit: host.chooseMatrixUnit, schedule }),
    restoration: storedRestoration((name) => host.fileSource(`${DEMO}/${name}`)),
    seconds: most === undefined ? undefined : 60 * most,
    signal: stop,
    progress: (done, total, what, left) => {
      const rest = left === null ? '' : `, about ${duration(1000 * left)} left`;
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${done} of ${total}${rest}  ${what}`);
    },
  });
  clear();
  const text = JSON.stringify(report, null, 2);
  if (path !== undefined) await host.writeFileAtomic(path, new TextEncoder().encode(`${text}\n`));
  console.log(json ? text : reportText(report, RUNTIME));
  if (report.interrupted) throw stop.reason;
  return report.verdict === 'unusable' ? 1 : 0;
}
