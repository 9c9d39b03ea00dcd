/** Ctrl-C, and other requests to end. */

export class Interrupted extends Error {
  override name = 'Interrupted';
  override message = 'Interrupted; no unfinished result was written.';
}

/** Ctrl-C and requests to end stop the work at its next step; a second one ends the process at once. */
export function onInterrupt(restoreTerminal: () => void): { signal: AbortSignal; done(): void } {
  const controller = new AbortController();
  const interrupt = () => {
    if (!controller.signal.aborted) return controller.abort(new Interrupted());
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
