/**
 * Runs uvu test files on any host, one after another, and counts. uvu keeps a global queue of suites, one group a file; each suite answers
 * [errors, passed, skipped, total]. A suite stopped by a throwing hook, and a file that throws when imported, count as failures,
 * which uvu by itself would not tell. At the end the files that took longest are told.
 */
import { skips } from './skip.ts';

export interface TestFile {
  /** Name in the report. */
  name: string;
  /** Imports the file, which queues its suites. */
  load(): Promise<unknown>;
}

export interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

/** What came of a file. */
export interface FileResult extends Counts {
  name: string;
  /** Why tests were skipped, one entry each. */
  skips: string[];
  /** Failures that uvu does not tell. */
  untold: string[];
  /** Seconds: by the clock on the wall, and of the processor, ended child processes included; null where the host does not tell. */
  wall: number;
  cpu: number | null;
}

type Suite = () => Promise<[errors: string | true, passed: number, skipped: number, total: number]>;
interface UvuGlobals {
  UVU_DEFER: number;
  UVU_INDEX: number;
  UVU_QUEUE: Suite[][];
}

/** So many of the slowest files are told. */
const TOLD = 15;

/** Runs the files in order, printing uvu's report, then `tell`s. `processorSeconds` is what the process has used so far, where the host knows it. */
export async function runTestFiles(files: TestFile[], processorSeconds?: () => number): Promise<Counts> {
  const results: FileResult[] = [];
  for (const file of files) results.push(await runTestFile(file, processorSeconds));
  return tell(results);
}

/** Runs one file, printing its name and uvu's report. */
export async function runTestFile({ name, load }: TestFile, processorSeconds: () => number | null = () => null): Promise<FileResult> {
  const uvu = globalThis as unknown as UvuGlobals;
  uvu.UVU_DEFER = 1; // before uvu is first imported, so that it leaves running to us
  const suites: Suite[] = [];
  uvu.UVU_QUEUE = [suites];
  const skippedBefore = skips.length;
  const result: FileResult = { name, passed: 0, failed: 0, skipped: 0, skips: [], untold: [], wall: 0, cpu: null };
  const [begun, used] = [performance.now(), processorSeconds()];
  const fail = (what: string, error?: unknown) => {
    result.untold.push(`FAIL ${what}${error === undefined ? '' : `: ${(error as Error)?.stack ?? error}`}`);
  };

  console.log(name);
  try {
    await load();
    if (suites.length === 0) throw new Error('it queued no tests; does it end with test.run()?');
  } catch (error) {
    result.failed++;
    fail(name, error);
  }
  for (const suite of suites) {
    try {
      const [errors, passed, skipped, total] = await suite();
      result.passed += passed;
      result.failed += total - passed;
      result.skipped += skipped;
      if (errors === true && passed < total) fail(`${name}: ${total - passed} tests did not run, for a hook threw`);
      if (errors !== true) console.log(`\n${errors}`);
    } catch (error) {
      result.failed++;
      fail(`${name}: a hook`, error);
    }
  }
  console.log('');

  result.skips = skips.slice(skippedBefore);
  result.passed -= result.skips.length;
  result.skipped += result.skips.length;
  result.wall = (performance.now() - begun) / 1000;
  result.cpu = used === null ? null : processorSeconds()! - used;
  return result;
}

/** Prints the slowest files, failures that uvu does not tell, the reasons of skips, and last `N passed, N failed`, with `, N skipped` when any were. */
export function tell(results: readonly FileResult[]): Counts {
  const sum = (numbers: number[]) => numbers.reduce((all, each) => all + each, 0);
  const seconds = (value: number | null) => (value === null ? '' : value.toFixed(1)).padStart(7);
  const line = (name: string, wall: number, cpu: number | null) => console.log(`${seconds(wall)}${seconds(cpu)}  ${name}`);
  const knowsCpu = results.every(({ cpu }) => cpu !== null);
  console.log(`   wall${knowsCpu ? '    CPU' : ''}  in seconds, of the slowest files`);
  for (const { name, wall, cpu } of [...results].sort((a, b) => b.wall - a.wall).slice(0, TOLD)) line(name, wall, cpu);
  line(`all ${results.length}`, sum(results.map(({ wall }) => wall)), knowsCpu ? sum(results.map(({ cpu }) => cpu!)) : null);

  for (const { untold } of results) for (const failure of untold) console.log(failure);
  const reasons = results.flatMap((result) => result.skips);
  for (const reason of new Set(reasons)) console.log(`skipped ${reasons.filter((each) => each === reason).length}: ${reason}`);
  const [passed, failed, skipped] = (['passed', 'failed', 'skipped'] as const).map((key) => sum(results.map((result) => result[key])));
  console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
  return { passed, failed, skipped };
}
