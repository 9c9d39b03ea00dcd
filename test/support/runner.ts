/**
 * Runs uvu test files in one process on any host, and counts. uvu keeps a global queue of suites, one group a file; each suite answers
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

type Suite = () => Promise<[errors: string | true, passed: number, skipped: number, total: number]>;
interface UvuGlobals {
  UVU_DEFER: number;
  UVU_INDEX: number;
  UVU_QUEUE: (string | null | Suite)[][];
}

/** What a file took, in seconds. */
interface Spent {
  name: string;
  wall: number;
  /** Of the processor, child processes that have ended included; null where the host does not tell. */
  cpu: number | null;
}

/** So many of the slowest files are told. */
const TOLD = 15;

/** `N passed, N failed`, and `, N skipped` when any were. */
export function summary({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`;
}

/**
 * Loads and runs the files in order, prints uvu's report, then the slowest files, the failures that uvu does not tell, the reasons of skips and the
 * summary. `processorSeconds` tells what the process has used so far, where the host knows it.
 */
export async function runTestFiles(files: TestFile[], processorSeconds: () => number | null = () => null): Promise<Counts> {
  const uvu = globalThis as unknown as UvuGlobals;
  const counts: Counts = { passed: 0, failed: 0, skipped: 0 };
  const untold: string[] = [];
  const spent: Spent[] = files.map(({ name }) => ({ name, wall: 0, cpu: null }));
  const timed = async <T>(file: Spent, work: () => Promise<T>): Promise<T> => {
    const [wall, cpu] = [performance.now(), processorSeconds()];
    try {
      return await work();
    } finally {
      file.wall += (performance.now() - wall) / 1000;
      if (cpu !== null) file.cpu = (file.cpu ?? 0) + processorSeconds()! - cpu;
    }
  };
  const fail = (what: string, error?: unknown) => {
    untold.push(`FAIL ${what}${error === undefined ? '' : `: ${(error as Error)?.stack ?? error}`}`);
  };

  uvu.UVU_DEFER = 1; // before uvu is first imported, so that it leaves running to us
  uvu.UVU_QUEUE = [];
  for (const [index, file] of files.entries()) {
    uvu.UVU_INDEX = index;
    uvu.UVU_QUEUE.push([file.name]);
    try {
      await timed(spent[index], () => file.load());
      if (uvu.UVU_QUEUE[index].length === 1) throw new Error('it queued no tests; does it end with test.run()?');
    } catch (error) {
      counts.failed++;
      fail(file.name, error);
    }
  }
  for (const [index, group] of uvu.UVU_QUEUE.entries()) {
    const name = group[0];
    for (let i = 1; i < group.length; i++) {
      const suite = group[i] as Suite;
      group[i] = async () => {
        try {
          const result = await timed(spent[index], suite);
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
  tellSlowest(spent);
  for (const line of untold) console.log(line);
  for (const reason of new Set(skips)) console.log(`skipped ${skips.filter((each) => each === reason).length}: ${reason}`);
  console.log(summary(counts));
  return counts;
}

function tellSlowest(spent: readonly Spent[]): void {
  const seconds = (value: number | null) => (value === null ? '' : value.toFixed(1)).padStart(7);
  const sum = (values: (number | null)[]) =>
    values.reduce<number | null>((all, value) => (value === null ? all : (all ?? 0) + value), null);
  const line = (name: string, wall: number | null, cpu: number | null) => console.log(`${seconds(wall)}${seconds(cpu)}  ${name}`);
  console.log('seconds   CPU  of the slowest files');
  for (const { name, wall, cpu } of [...spent].sort((a, b) => b.wall - a.wall).slice(0, TOLD)) line(name, wall, cpu);
  line(`all ${spent.length}`, sum(spent.map(({ wall }) => wall)), sum(spent.map(({ cpu }) => cpu)));
}
