/** Loaded before a program whose processor time is to be known: at its end the milliseconds stand in the file that USAGE_FILE names. */
import { writeFileSync } from 'node:fs';

const file = process.env.USAGE_FILE;
process.on('exit', () => {
  const { user, system } = process.cpuUsage();
  writeFileSync(file, JSON.stringify({ cpuMs: (user + system) / 1000, wallMs: performance.now() }));
});
