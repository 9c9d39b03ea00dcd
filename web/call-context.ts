/** What the engine's methods get beside their parameters. */
export interface CallContext<Event> {
  emit(event: Event, transfer?: Transferable[]): void;
  signal: AbortSignal;
}
