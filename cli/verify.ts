/** `verify <folder>`: runs golden cases, recorded inputs and outputs of a reference program, on this machine's adapter. */
import { Command } from 'commander';
import { openDevice } from '../gpu/device.ts';
import { host } from '../host/node.ts';
import { type CaseReport, type OutputComparison, type VerifyReport, verifyFolder } from '../verify/verify.ts';
import type { WeightDType } from '../weights/attach.ts';
import { openModelFolder } from '../weights/model-files.ts';
import { COMMAND } from './program.ts';
import { duration } from './progress.ts';
import { memoryOption, weightsOption } from './weights-input.ts';

const HELP = `
The folder holds index.json, which lists the cases with inputs, expected outputs and tolerances, and the safetensors files it names.
A line per case: its worst output, the error found and what is accepted there, the share of the tolerance that was used, the time, and the
intermediate results that were compared too. The last line reads 'N passed, N failed', and ', N skipped' when any were.

Examples:
  $ ${COMMAND} verify test/fixtures/golden
  $ ${COMMAND} verify golden --filter unet --stages
  $ ${COMMAND} verify golden --full checkpoints --filter full_ --weights q4
  $ ${COMMAND} verify golden --full checkpoints --filter full_ --memory 2

Exit codes: 0 all passed, 1 a case failed or none was run, 2 no such folder or bad option, 3 no adapter.`;

interface Flags {
  filter?: string;
  full?: boolean | string;
  weights?: WeightDType;
  memory?: number;
  stages?: boolean;
  json?: boolean;
}

export function verifyCommand(): Command {
  return new Command('verify')
    .description('Compares this program with recorded results of a reference program, case by case.')
    .argument('<folder>', 'folder with index.json and the files it names')
    .option('--filter <text>', 'only cases whose id, component or operation contains this text')
    .option(
      '--full [folder]',
      'also the cases of models of the published size, which need about 10 GB of memory and minutes; with their checkpoints in a folder these are read, else made',
    )
    .addOption(weightsOption())
    .addOption(memoryOption('no limit'))
    .option('--stages', 'a line per intermediate result too')
    .option('--json', 'print the report as JSON')
    .addHelpText('after', HELP)
    .action(async (folder: string, flags: Flags) => {
      const report = await verify(folder, flags);
      process.exitCode = report.failed > 0 || report.passed === 0 ? 1 : 0;
    });
}

async function verify(
  folder: string,
  { filter, full, weights, memory = Number.POSITIVE_INFINITY, stages, json }: Flags,
): Promise<VerifyReport> {
  const open = (name: string) => host.fileSource(`${folder}/${name}`);
  await (await open('index.json')).close?.(); // a missing folder is told before a missing adapter
  const published = typeof full === 'string' ? await openModelFolder(host, full) : null;
  const device = await openDevice({
    gpu: await host.gpu(),
    settle: host.settle,
    chooseMatrixUnit: host.chooseMatrixUnit,
    debug: host.debug?.(),
  });
  device.residency.budget = memory * 1e9;
  try {
    const show = (each: CaseReport) => {
      for (const line of caseLines(each, stages)) console.log(line);
    };
    const report = await verifyFolder({ open, device, filter, weights, full: published ?? full === true, onCase: json ? undefined : show });
    const { peak } = device.memory;
    if (json)
      console.log(JSON.stringify({ adapter: device.facts.description || device.facts.device, peakGpuBytes: peak, ...report }, null, 2));
    else for (const line of summaryLines(report, peak)) console.log(line);
    return report;
  } finally {
    device.close();
    await published?.close();
  }
}

const MARK = { passed: 'ok  ', failed: 'FAIL', skipped: '-   ' };

function caseLines({ id, status, reason, comparisons, notCompared, seconds }: CaseReport, all = false): string[] {
  const stages = comparisons.filter(({ stage }) => stage);
  const worst = comparisons.find(({ stage }) => !stage);
  const words = [MARK[status], id.padEnd(37), reason ?? (worst ? found(worst) : 'nothing was compared').padEnd(58)];
  if (status !== 'skipped') words.push(duration(seconds * 1000));
  const count = stages.length + notCompared.length;
  if (count > 0) words.push(` ${stages.length} of ${count} stages${stages.length > 0 ? `, at most ${percent(stages[0].ratio)}` : ''}`);
  return [
    words.join(' '),
    ...(status === 'failed' || all ? comparisons.map(detail) : []),
    ...(all && notCompared.length > 0 ? [`       not compared: ${notCompared.join(', ')}`] : []),
  ];
}

function detail(comparison: OutputComparison): string {
  return `       ${comparison.stage ? 'stage ' : 'result'} ${found(comparison)}${comparison.ratio <= 1 ? '' : '  <- too much'}`;
}

function found({ output, error, accepted, ratio, cosine }: OutputComparison): string {
  if (cosine !== undefined)
    return `${output.padEnd(18)} ${error.toExponential(1)} of the spread, ${accepted.toExponential(1)} accepted, cosine ${cosine.toFixed(6)}`;
  const difference =
    error === 0 ? 'no difference' : `${error.toExponential(1)} of ${accepted.toExponential(1)} accepted, ${percent(ratio)}`;
  return `${output.padEnd(18)} ${difference}`;
}

function percent(ratio: number): string {
  return `${(100 * ratio).toFixed(ratio < 0.0995 ? 1 : 0)} %`;
}

function summaryLines({ cases, passed, failed, skipped }: VerifyReport, peak: number): string[] {
  const reasons = cases.filter(({ status }) => status === 'skipped').map(({ reason }) => reason);
  return [
    ...[...new Set(reasons)].map((reason) => `skipped ${reasons.filter((each) => each === reason).length}: ${reason}`),
    `${Math.round(peak / 1e6)} MB of GPU memory at most`,
    `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`,
  ];
}
