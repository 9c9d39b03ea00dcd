/** Every example as a person runs it: a process of its own, from another folder. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** What an example prints; it may write in `folder`. */
async function run(name: string, folder?: string): Promise<string> {
  const args = ['--import', 'tsx', join('examples', name), ...(folder ? [folder] : [])];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root, timeout: 300_000 });
  return stdout;
}

test('an own kernel agrees with f64, and so does its gradient', async () => {
  assert.match(await run('own-kernel.ts'), /^softplus: values differ from f64 by \d\.\de-\d+ at most, derivatives by \d\.\de-\d+$/m);
});

test.run();
