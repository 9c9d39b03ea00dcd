/**
 * Runs the portable tests in Deno, whose WebGPU is wgpu and whose WGSL compiler is naga: `npx tsx test/deno/run.ts [pattern]`.
 * Ends like test/run.ts.
 */
import { runDeno } from '../../scripts/deno.ts';
import { portableTests } from '../support/portable.ts';

const tests = await portableTests(process.argv[2]);
process.exit(
  runDeno(
    new URL('./main.ts', import.meta.url),
    tests.map(({ name }) => name),
  ),
);
