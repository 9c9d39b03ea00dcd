/** An adapter's check as text: short enough to read, and to paste into a report of a fault. */
import type { TiledWork } from '../core/adapter.ts';
import { shown } from '../core/text.ts';
import { VERSION } from '../core/version.ts';
import type { TileTuning } from '../gpu/tile-tuning.ts';
import type { AdapterReport } from './adapter-check.ts';
import type { Probes } from './probes.ts';

const VERDICTS = {
  good: 'GOOD: it computes right.',
  flawed: 'FLAWED: it computes right where it will be used, and not in all that it offers.',
  unusable: 'UNUSABLE: its results cannot be trusted.',
  unfinished: 'UNFINISHED: what was looked at is right, and not all was.',
};

/** `runtime`: what the program runs in. -> lines of at most some 100 characters */
export function reportText(report: AdapterReport, runtime: string): string {
  const { adapter, schedules, kernels, probes, tiles, speed, longestSubmit, restoration, verdict, why, seconds } = report;
  const checked = schedules.checked.map((each) => (each === schedules.chosen ? `${each} (chosen)` : each)).join(', ');
  const kind = adapter.software ? ', computes on the processor' : '';
  return [
    VERDICTS[verdict],
    ...why.map((each) => `  ${each}`),
    '',
    `program      supir-webgpu ${VERSION}, ${shown(runtime, 160)}`,
    `adapter      ${shown(adapter.description || adapter.device || adapter.vendor)}${kind}`,
    `             vendor ${shown(adapter.vendor || '?')}, architecture ${shown(adapter.architecture || '?')}, device ${shown(adapter.device || '?')}`,
    `subgroups    ${adapter.subgroupSizes[1] ? `${adapter.subgroupSizes.join(' to ')} lanes` : 'size unknown'}`,
    `schedules    ${checked}`,
    ...(tiles ? tileLines(tiles) : []),
    ...Object.entries(schedules.left).map(([name, reason]) => `             not ${name}: ${shown(reason, 200)}`),
    ...(schedules.matrices ? [`             matrix units: ${shown(schedules.matrices, 300)}`] : []),
    `kernels      ${kernels.checked} checks, ${kernels.wrong.length} wrong${kernels.left > 0 ? `; ${kernels.left} left out, the time was over` : ''}`,
    ...(kernels.worst
      ? [`             worst ${percent(kernels.worst.share)} of what is allowed: ${kernels.worst.name} (${kernels.worst.schedule})`]
      : []),
    ...kernels.wrong
      .slice(0, 10)
      .map(({ name, schedule, problem }) => `             WRONG ${name} (${schedule}): ${shown(problem ?? '', 160)}`),
    `restoration  ${restoration ? `${percent(restoration.share)} of what is allowed` : 'not run'}`,
    ...(probes ? probeLines(probes) : []),
    ...(speed
      ? [
          `speed        matmul ${speed.matmul.toFixed(0)}, convolution ${speed.convolution.toFixed(0)}, attention ${speed.attention.toFixed(0)} GFLOP/s`,
          `transfer     ${(speed.upload / 1e9).toFixed(2)} GB/s up, ${(speed.download / 1e9).toFixed(2)} GB/s down`,
        ]
      : []),
    `submits      ${(longestSubmit.seconds * 1000).toFixed(0)} ms at most, compiling included; ${longestSubmit.budget * 1000} ms are planned`,
    `time         ${seconds.toFixed(0)} s`,
  ].join('\n');
}

function probeLines(probes: Probes): string[] {
  const keeps = (yes: boolean) => (yes ? 'kept' : 'lost');
  return [
    `halves       below 6.1e-5: ${keeps(probes.subnormalHalves.read)} when read, ${keeps(probes.subnormalHalves.written)} when written; beyond 65504: ${probes.infiniteHalves ? 'infinity' : 'not infinity'}`,
    `functions    exp ${probes.ulps.exp.toFixed(1)}, tanh ${probes.ulps.tanh.toFixed(1)}, division ${probes.ulps.division.toFixed(1)} units in the last place`,
    `clock        ${probes.timestampGrain === null ? 'none on the GPU' : `multiples of ${probes.timestampGrain} ns`}`,
  ];
}

const WORKS: Readonly<Record<TiledWork, string>> = {
  manyRows: 'large matmuls',
  fewRows: 'small matmuls',
  manyWindows: 'large convolutions',
  fewWindows: 'small convolutions',
  fewQueries: 'short attention',
};

/** What would be chosen, and why: milliseconds with large and with small tiles. */
function tileLines({ tiles, times }: TileTuning): string[] {
  return (Object.keys(WORKS) as TiledWork[]).map((work, i) => {
    const { large, small } = times[work] ?? {};
    const why = large === undefined ? 'as usual, not timed' : `${large.toFixed(2)} ms in large ones, ${small!.toFixed(2)} in small ones`;
    return `${i === 0 ? 'tiles   ' : '        '}     ${WORKS[work]}: ${tiles[work]} (${why})`;
  });
}

const percent = (share: number | null) => (share === null ? '?' : `${(100 * share).toFixed(1)} %`);
