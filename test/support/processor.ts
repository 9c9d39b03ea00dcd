/** Time of the processor, for the harnesses: it is read through Node. */
import { readFileSync } from 'node:fs';

/** Linux counts in hundredths of a second for its readers. */
const TICKS = 100;

/** Seconds of the processor that this process has used and, on Linux, the processes that it started and that have ended. */
export function processorSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6 + children();
}

function children(): number {
  if (process.platform !== 'linux') return 0;
  const stat = readFileSync('/proc/self/stat', 'utf8');
  // The fields behind the name in parentheses; of these cutime and cstime.
  const [user, system] = stat.slice(stat.lastIndexOf(')') + 2).split(' ').slice(13, 15); // biome-ignore format: short
  return (Number(user) + Number(system)) / TICKS;
}
