/** One of several processes that share the test files; see jobs.ts. It runs the files that it is sent the names of, and answers with what came of each. */
import { processorSeconds } from './processor.ts';
import { type FileResult, runTestFile } from './runner.ts';

export interface Ran {
  result: FileResult;
  /** What was printed. */
  text: string;
}

let text = '';
const collect = (chunk: unknown, encoding?: unknown, done?: unknown): boolean => {
  text += typeof chunk === 'string' ? chunk : new TextDecoder().decode(chunk as Uint8Array);
  const written = typeof encoding === 'function' ? encoding : done;
  if (typeof written === 'function') written();
  return true;
};
process.stdout.write = collect;

process.on('message', async (name: string) => {
  const result = await runTestFile({ name, load: () => import(`../${name}`) }, processorSeconds);
  process.send!({ result, text } satisfies Ran);
  text = '';
});
process.on('disconnect', () => process.exit());
