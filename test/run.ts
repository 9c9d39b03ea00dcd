/**
 * Runs the tests in this process: `npx tsx test/run.ts [pattern]`, where the pattern is a regular expression that file paths must match.
 * The last line reads `N passed, N failed`, with `, N skipped` when any were. Exits 1 unless all that ran passed.
 */
import { findTests } from './support/find.ts';
import { processorSeconds } from './support/processor.ts';
import { runTestFiles } from './support/runner.ts';

const files = findTests(process.argv[2]);
const counts = await runTestFiles(
  files.map(({ name, url }) => ({ name, load: () => import(url) })),
  processorSeconds,
);
process.exit(counts.failed > 0 || counts.passed === 0 ? 1 : 0);
