/** Starts Deno, from the npm package, on the driver that set-up noted. */
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { driverByHand, notedDriver } from '../host/node-driver.ts';

/** Runs a script with its output shown here, and gives its exit status. */
export function runDeno(script: URL, args: string[] = []): number {
  const driver = driverByHand().length > 0 ? {} : notedDriver();
  const loader = driver.VK_DRIVER_FILES ? { LD_LIBRARY_PATH: dirname(driver.VK_DRIVER_FILES) } : {};
  const deno = fileURLToPath(new URL('../node_modules/.bin/deno', import.meta.url));
  const { status, error } = spawnSync(deno, ['run', '--allow-all', '--no-lock', fileURLToPath(script), ...args], {
    stdio: 'inherit',
    env: { ...process.env, ...loader, ...driver },
  });
  if (error) console.error(`Deno did not start: ${error.message}. Run \`npm ci\` again.`);
  return status ?? 1;
}
