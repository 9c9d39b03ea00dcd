/** Ctrl-C, and other requests to end. */

export class Interrupted extends Error {
  override name = 'Interrupted';

  /** `what` happened to the work, and how to go on. */
  constructor(what = 'no unfinished result was written.') {
    super(`Interrupted; ${what}`);
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** What listens for requests to end, as long as a command is at work. */
const listening: (() => void)[] = [];

/** Ctrl-C and requests to end abort the signal, with an `Interrupted`, which stops the work at its next step; a second one ends the process at once. */
export function onInterrupt(restoreTerminal: () => void, what?: string): AbortSignal {
  const controller = new AbortController();
  const interrupt = () => {
    if (!controller.signal.aborted) return controller.abort(new Interrupted(what));
    restoreTerminal();
    process.exit(130);
  };
  for (const name of SIGNALS) process.on(name, interrupt);
  listening.push(interrupt);
  return controller.signal;
}

/** A command has ended: requests to end do what they do in any program. */
export function forgetInterrupts(): void {
  for (const interrupt of listening.splice(0)) for (const name of SIGNALS) process.removeListener(name, interrupt);
}
