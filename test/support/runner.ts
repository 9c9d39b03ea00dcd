/**
 * Runs uvu test files in one process on any host, and counts. uvu keeps a global queue of suites, one group a file; each suite answers
 * [errors, passed, skipped, total]. A suite stopped by a throwing hook, and a file that throws when imported, count as failures,
 * which uvu by itself would not tell.
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

type Suite = () => Promise<[errors: string | true, passed: number, skipped: number, total: number]>;
interface UvuGlobals {
  UVU_DEFER: number;
  UVU_INDEX: number;
  UVU_QUEUE: (string | null | Suite)[][];
}

/** `N passed, N failed`, and `, N skipped` when any were. */
export function summary({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`;
}

/** Loads and runs the files in order, prints uvu's report, then the failures it does not tell, the reasons of skips and the summary. */
export async function runTestFiles(files: TestFile[]): Promise<Counts> {
  const uvu = globalThis as unknown as UvuGlobals;
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  const untold: string[] = [];
  const fail = (what: string, error?: unknown) => {
    untold.push(`FAIL ${what}${error === undefined ? '' : `: ${(error as Error)?.stack ?? error}`}`);
  };

  uvu.UVU_DEFER = 1; // before uvu is first imported, so that it leaves running to us
  uvu.UVU_QUEUE = [];
  for (const [index, file] of files.entries()) {
    uvu.UVU_INDEX = index;
    uvu.UVU_QUEUE.push([file.name]);
    try {
      await file.load();
      if (uvu.UVU_QUEUE[index].length === 1) throw new Error('it queued no tests; does it end with test.run()?');
    } catch (error) {
      counts.failed++;
      fail(file.name, error);
    }
  }
  for (const group of uvu.UVU_QUEUE) {
    const name = group[0];
    for (let i = 1; i < group.length; i++) {
      const suite = group[i] as Suite;
      group[i] = async () => {
        try {
          const result = await suite();
          const [errors, passed, skipped, total] = result;
          counts.passed += passed;
          counts.failed += total - passed;
          counts.skipped += skipped;
          if (errors === true && passed < total) fail(`${name}: ${total - passed} tests did not run, for a hook threw`);
          return result;
        } catch (error) {
          counts.failed++;
          fail(`${name}: a hook`, error);
          return ['\n', 0, 0, 0];
        }
      };
    }
  }
  await (await import('uvu')).exec();

  counts.passed -= skips.length;
  counts.skipped += skips.length;
  for (const line of untold) console.log(line);
  for (const reason of new Set(skips)) console.log(`skipped ${skips.filter((each) => each === reason).length}: ${reason}`);
  console.log(summary(counts));
  return counts;
}
