/**
 * Test files shared among processes. A process takes the next file when it is done with one: the first from the beginning of the list, the second from
 * its end, and so on in turns, so that files which lie beside each other, and compile the same pipelines, mostly run in one process.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Ran } from './job.ts';
import { type Counts, type FileResult, tell } from './runner.ts';

/** Runs the files, named by their paths from test/, in so many processes; prints as runTestFiles does, a file's report when the file is done. */
export async function runInJobs(names: string[], jobs: number): Promise<Counts> {
  const left = [...names];
  const results: FileResult[] = [];
  const job = async (index: number) => {
    let child: ChildProcess | null = null;
    while (left.length > 0) {
      const name = index % 2 === 0 ? left.shift()! : left.pop()!;
      child ??= fork(fileURLToPath(new URL('./job.ts', import.meta.url)));
      const { result, text } = await run(child, name);
      if (result.cpu === null) child = null; // it has ended
      results.push(result);
      process.stdout.write(text);
    }
    child?.disconnect();
  };
  await Promise.all(Array.from({ length: jobs }, (_, index) => job(index)));
  return tell(results);
}

/** Has a process run a file. Should the process end instead, the file has failed. */
function run(child: ChildProcess, name: string): Promise<Ran> {
  return new Promise((done) => {
    const begun = performance.now();
    const ended = (code: number | null, signal: string | null) => {
      child.off('message', ran);
      const wall = (performance.now() - begun) / 1000;
      const untold = [`FAIL ${name}: the process ended with ${signal ?? `exit code ${code}`}`];
      done({ result: { name, passed: 0, failed: 1, skipped: 0, skips: [], untold, wall, cpu: null }, text: `${name}\n` });
    };
    const ran = (answer: unknown) => {
      child.off('exit', ended);
      done(answer as Ran);
    };
    child.once('exit', ended);
    child.once('message', ran);
    child.send(name);
  });
}
