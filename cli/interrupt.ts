/** Ctrl-C, and other requests to end. */

export class Interrupted extends Error {
  override name = 'Interrupted';

  /** `what` happened to the work, and how to go on. */
  constructor(what = 'no unfinished result was written.') {
    super(`Interrupted; ${what}`);
  }
}

/** Ctrl-C and requests to end stop the work at its next step, with an `Interrupted`; a second one ends the process at once. */
export function onInterrupt(restoreTerminal: () => void, what?: string): { signal: AbortSignal; done(): void } {
  const controller = new AbortController();
  const interrupt = () => {
    if (!controller.signal.aborted) return controller.abort(new Interrupted(what));
    restoreTerminal();
    process.exit(130);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of signals) process.on(name, interrupt);
  return {
    signal: controller.signal,
    done() {
      for (const name of signals) process.removeListener(name, interrupt);
    },
  };
}
