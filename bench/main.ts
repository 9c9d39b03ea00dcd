/** `npm run bench -- ops [part of a name] [--rounds n] [--json]`. The peers are installed by `npm --prefix bench/peers install`. */
import { parseArgs } from 'node:util';
import { benchOps, type OpResult } from './ops.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, rounds: { type: 'string', default: '5' } },
});
const [what = 'ops', pattern = ''] = positionals;
if (what !== 'ops') {
  console.error(`There is no benchmark '${what}'; there is: ops.`);
  process.exit(2);
}

function line({ operation, library, cpuMs, wallMs, gflops, error, failure }: OpResult): string {
  const name = `${operation.padEnd(36)} ${library.padEnd(22)}`;
  if (failure) return `${name} ${failure}`;
  const figures = [cpuMs.toFixed(1), wallMs.toFixed(1), gflops === null ? '' : gflops.toFixed(1)].map((text) => text.padStart(9));
  return `${name} ${figures.join(' ')}   ${error.toExponential(1)}`;
}

if (!values.json) console.log(`${'operation'.padEnd(36)} ${'library'.padEnd(22)}    CPU ms   wall ms   GFLOP/s   error`);
await benchOps(pattern, Number(values.rounds), (result) => console.log(values.json ? JSON.stringify(result) : line(result)));
process.exit(0);
