/** Ctrl-C, and other requests to end. */

export class Interrupted extends Error {
  override name = 'Interrupted';

  /** `goOn`: a sentence on how to go on. */
  constructor(goOn = '') {
    super(`Interrupted; no unfinished result was written.${goOn}`);
  }
}

/** Ctrl-C and requests to end stop the work at its next step, with an `Interrupted`; a second one ends the process at once. */
export function onInterrupt(restoreTerminal: () => void, goOn?: string): { signal: AbortSignal; done(): void } {
  const controller = new AbortController();
  const interrupt = () => {
    if (!controller.signal.aborted) return controller.abort(new Interrupted(goOn));
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
