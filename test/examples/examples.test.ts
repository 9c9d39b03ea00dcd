/** Every example as a person runs it: a process of its own. Their pages are tried by scripts/check-package.ts. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { decode } from '../../image/decode.ts';
import { psnr } from '../../image/metrics.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const test = suite<{ folder: string }>('examples');

test.before(async (context) => {
  context.folder = await mkdtemp(join(tmpdir(), 'supir-examples-'));
});
test.after(({ folder }) => rm(folder, { recursive: true }));

async function run(name: string, folder: string): Promise<string> {
  const args = ['--import', 'tsx', join('examples', name), folder];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: root, timeout: 300_000 });
  return stdout;
}

test('an own kernel agrees with f64, and so does its gradient', async ({ folder }) => {
  assert.match(
    await run('own-kernel.ts', folder),
    /^softplus: values differ from f64 by \d\.\de-\d+ at most, derivatives by \d\.\de-\d+$/m,
  );
});

test('a small network learns a picture', async ({ folder }) => {
  const learnt = Number(/step 200: ([\d.]+) dB/.exec(await run('fit-picture.ts', folder))?.[1]);
  assert.ok(learnt > 28, `${learnt} dB`);
  const { width, height } = await decode(await readFile(join(folder, 'fitted.png')), 'fitted.png');
  assert.equal([width, height], [48, 48]);
});

test('ten lines restore a photo', async ({ folder }) => {
  await run('restore.ts', folder);
  const [restored, original] = await Promise.all(
    [join(folder, 'restored.png'), join(root, 'demo/photos/astronaut.png')].map(async (path) => decode(await readFile(path), path)),
  );
  assert.ok(psnr(restored, original) > 25, `${psnr(restored, original)} dB`); // the damaged photo has 24.97
});

test('SDXL makes a picture of a text without the control network', async ({ folder }) => {
  assert.match(await run('text-to-image.ts', folder), /10 of 10/);
  const { width, height, data } = await decode(await readFile(join(folder, 'text-to-image.png')), 'text-to-image.png');
  assert.equal([width, height], [128, 128]);
  const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
  const spread = Math.sqrt(data.reduce((sum, value) => sum + (value - mean) ** 2, 0) / data.length);
  assert.ok(spread > 20 && spread < 100, `a spread of ${spread} levels`);
});

test.run();
