/** Loaded before a program whose processor time is to be known, and before those that it starts: at its end the milliseconds of each stand in a file of USAGE_FOLDER. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

process.on('exit', () => {
  const { user, system } = process.cpuUsage();
  writeFileSync(join(process.env.USAGE_FOLDER, String(process.pid)), String((user + system) / 1000));
});
