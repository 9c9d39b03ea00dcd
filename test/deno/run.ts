/**
 * Runs the portable tests in Deno, whose WebGPU is wgpu and whose WGSL compiler is naga: `npx tsx test/deno/run.ts [pattern]`.
 * Ends like test/run.ts. Deno follows the driver that set-up noted.
 */
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { notedDriver } from '../../host/node-driver.ts';
import { portableTests } from '../support/portable.ts';

const driver = notedDriver();
const loader = driver.VK_DRIVER_FILES ? { LD_LIBRARY_PATH: dirname(driver.VK_DRIVER_FILES) } : {};
const files = (await portableTests(process.argv[2])).map(({ name }) => name);
const main = fileURLToPath(new URL('./main.ts', import.meta.url));
const deno = fileURLToPath(new URL('../../node_modules/.bin/deno', import.meta.url));
const { status, error } = spawnSync(deno, ['run', '--allow-all', '--no-lock', main, ...files], {
  stdio: 'inherit',
  env: { ...process.env, ...loader, ...driver },
});
if (error) console.error(`Deno did not start: ${error.message}. Run \`npm ci\` again.`);
process.exit(status ?? 1);
