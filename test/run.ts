/**
 * Runs the tests: `npx tsx test/run.ts [--jobs N] [pattern]`, where the pattern is a regular expression that file paths must match.
 * In this process, or shared among N others, which is how all of them are run: in two. The last line reads `N passed, N failed`, with `, N skipped`
 * when any were. Exits 1 unless all that ran passed.
 */
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { findTests } from './support/find.ts';
import { runInJobs } from './support/jobs.ts';
import { processorSeconds } from './support/processor.ts';
import { runTestFiles } from './support/runner.ts';

// No test finds what others noted about the adapter, nor notes anything for them: this is no folder.
process.env.SUPIR_CACHE = fileURLToPath(import.meta.url);
const { values, positionals } = parseArgs({ options: { jobs: { type: 'string' } }, allowPositionals: true });
const [pattern] = positionals;
const files = findTests(pattern);
const jobs = Math.min(files.length, Number(values.jobs ?? (pattern === undefined ? Math.min(2, availableParallelism()) : 1)));
const counts =
  jobs > 1
    ? await runInJobs(
        files.map(({ name }) => name),
        jobs,
      )
    : await runTestFiles(
        files.map(({ name, url }) => ({ name, load: () => import(url) })),
        processorSeconds,
      );
process.exit(counts.failed > 0 || counts.passed === 0 ? 1 : 0);
