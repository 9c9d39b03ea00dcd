/** Which process a temporary file or a lock belongs to, and whether that one still runs: what a killed process left can then be told from work under way. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

export interface Owner {
  pid: number;
  /** Eight hexadecimal digits of the machine's name, which folders that several machines share need. */
  machine: string;
  /** When the process began, as the kernel counts it: numbers of processes are given again. 0 where the system does not tell. */
  began: number;
}

/** Clock ticks between the machine's start and the process's, of Linux; 0 elsewhere. */
function beganAt(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]); // field 22 of proc(5); the name before may hold blanks
  } catch {
    return 0;
  }
}

export const thisProcess: Owner = {
  pid: process.pid,
  machine: createHash('sha256').update(hostname()).digest('hex').slice(0, 8),
  began: beganAt(process.pid),
};

/** Whether a process of this machine runs; null where it is of another machine, which cannot be asked. */
export function runs({ pid, machine, began }: Owner): boolean | null {
  if (machine !== thisProcess.machine) return null;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false; // EPERM: it runs, as another user's
  }
  const now = beganAt(pid);
  return began === 0 || now === 0 || now === began;
}
