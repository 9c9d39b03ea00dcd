/** Deno's side of run.ts: runs the test files named by their paths from test/. */
import { runTestFiles } from '../support/runner.ts';

const counts = await runTestFiles(process.argv.slice(2).map((name) => ({ name, load: () => import(`../${name}`) })));
process.exit(counts.failed > 0 || counts.passed === 0 ? 1 : 0);
