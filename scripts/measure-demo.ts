/**
 * `npx tsx scripts/measure-demo.ts PHOTOS OUT`: what the demo model gains on photos that it has not seen, damaged in three ways, and writes the tables of
 * demo/README.md. Evaluations lie in OUT, a folder for each damage, and go on where they were interrupted.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Measure, Row } from '../evaluate/evaluate.ts';
import { estimate } from '../evaluate/statistics.ts';

/** NOISY, MILD and LIGHT, and how the tables tell of them. */
const DAMAGES = [
  { name: 'NOISY', words: 'blur 0.8, noise 20, JPEG 50', options: ['--blur', '0.8', '--noise', '20', '--jpeg', '50'] },
  { name: 'MILD', words: 'blur 1.2, halved, noise 6, JPEG 70', options: ['--blur', '1.2', '--scale', '2', '--noise', '6', '--jpeg', '70'] },
  { name: 'LIGHT', words: 'JPEG 35', options: ['--jpeg', '35'] },
] as const;

const METHODS = { bicubic: 'input', stage1: 'stage 1', supir: 'restored' };
const [BEGIN, END] = ['<!-- measured -->', '<!-- end of measured -->'];

const project = fileURLToPath(new URL('..', import.meta.url));
const [photos, out] = process.argv.slice(2);
if (!photos || !out) {
  console.error('A folder of photos and one for the results must be named: npx tsx scripts/measure-demo.ts PHOTOS OUT');
  process.exit(2);
}

const sections = DAMAGES.map(({ name, words, options }) => {
  const folder = `${out}/${name}`;
  const command = ['evaluate', photos, '-o', folder, '--crop', '256', '--baseline', 'bicubic', '--resume', ...options];
  const { status } = spawnSync(process.execPath, ['--import', 'tsx', `${project}cli/main.ts`, ...command], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) process.exit(status ?? 1);
  const { rows } = JSON.parse(readFileSync(`${folder}/results.json`, 'utf8')) as { rows: Row[] };
  return section(`${name} (${words})`, rows);
});
const file = `${project}demo/README.md`;
const [before, after] = [readFileSync(file, 'utf8').split(BEGIN)[0], readFileSync(file, 'utf8').split(END)[1]];
writeFileSync(file, `${before}${BEGIN}\n${sections.join('\n')}${END}${after}`);

/** Means of all photos, with differences to the input, then every photo. */
function section(title: string, rows: readonly Row[]): string {
  const names = [...new Set(rows.map(({ photo }) => photo))];
  const values = (method: string, measure: Measure) =>
    names.map((photo) => rows.find((row) => row.method === method && row.photo === photo)![measure] as number);
  const gains = (method: string, measure: Measure) => values(method, measure).map((value, i) => value - values('bicubic', measure)[i]);
  const mean = (method: string, measure: Measure, digits: number) => estimate(values(method, measure)).mean.toFixed(digits);
  const gain = (method: string, measure: Measure, digits: number) => {
    if (method === 'bicubic') return '';
    const { mean, margin } = estimate(gains(method, measure));
    return ` (${signed(mean, digits)} ± ${margin!.toFixed(digits)})`;
  };
  const worst = (method: string) => (method === 'bicubic' ? '' : signed(Math.min(...gains(method, 'psnr')), 2));
  const lines = Object.entries(METHODS).map(([method, words]) =>
    [
      words,
      mean(method, 'psnr', 2) + gain(method, 'psnr', 2),
      worst(method),
      mean(method, 'ssim', 3) + gain(method, 'ssim', 3),
      ...[mean(method, 'msSsim', 3), mean(method, 'gmsd', 3), mean(method, 'sharpness', 2)],
    ].join(' | '),
  );
  const each = names.map((photo) => {
    const cell = (method: string) => {
      const row = rows.find((row) => row.method === method && row.photo === photo)!;
      return `${row.psnr.toFixed(2)} / ${row.ssim.toFixed(3)}`;
    };
    return [photo, ...Object.keys(METHODS).map(cell)].join(' | ');
  });
  return [
    `**${title}**, ${names.length} photos:\n`,
    '| | PSNR, dB (gain) | worst photo | SSIM (gain) | MS-SSIM | GMSD | sharpness |',
    '|---|---|---|---|---|---|---|',
    ...lines.map((line) => `| ${line} |`),
    '\n| photo | input | stage 1 | restored |',
    '|---|---|---|---|',
    ...each.map((line) => `| ${line} |`),
    '',
  ].join('\n');
}

function signed(value: number, digits: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(digits)}`;
}
