/** The page's side of the engine: calls go to the worker, results, events and errors come back. */
import type { Facts } from '../core/errors.ts';
import type { Call, Calls, FromEngine, ToEngine } from './protocol.ts';

/** An error from the engine, with the name it has there (UserError, DeviceError, AbortError or that of a fault) and its facts. */
export class EngineError extends Error implements Facts {
  readonly code?: string;
  readonly option?: string;
  readonly file?: string;
  readonly values?: Facts['values'];

  constructor(name: string, message: string, facts: Facts = {}) {
    super(message);
    this.name = name;
    Object.assign(this, facts);
  }
}

interface Pending {
  resolve(result: unknown): void;
  reject(error: Error): void;
  event?(event: unknown): void;
}

export class Engine {
  private readonly worker: Worker;
  private readonly pending = new Map<number, Pending>();
  private calls = 0;
  private broken: EngineError | null = null;

  /** `script`: address of the worker's script. `failed` is called when the worker itself breaks; nothing answers after that. */
  constructor(script: string, failed: (error: Error) => void) {
    // Of a script from the network the server's headers alone would say what it may do; from here it inherits the page's policy.
    const importing = new Blob([`import ${JSON.stringify(new URL(script, document.baseURI).href)};`], { type: 'text/javascript' });
    this.worker = new Worker(URL.createObjectURL(importing), { type: 'module', name: 'engine' });
    this.worker.onmessage = ({ data }: MessageEvent<FromEngine>) => this.receive(data);
    this.worker.onerror = (event) => {
      const error = new EngineError('EngineError', `The engine stopped: ${event.message || 'its script could not be loaded'}.`);
      this.broken = error;
      this.rejectAll(error);
      failed(error);
    };
  }

  /** Asks; rejects with EngineError. When `signal` aborts, the call ends with an AbortError as soon as the engine can stop. */
  call<C extends Call>(
    call: C,
    params: Calls[C][0],
    { event, signal }: { event?(event: Calls[C][2]): void; signal?: AbortSignal } = {},
  ): Promise<Calls[C][1]> {
    if (this.broken) return Promise.reject(this.broken);
    const id = ++this.calls;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve: resolve as Pending['resolve'], reject, event: event as Pending['event'] });
      signal?.addEventListener('abort', () => this.send({ id, cancel: true }), { once: true });
      this.send({ id, call, params } as ToEngine);
    });
  }

  /** Ends the worker and all that runs in it. */
  close(): void {
    this.worker.terminate();
    this.broken = new EngineError('AbortError', 'The engine was closed.');
    this.rejectAll(this.broken);
  }

  private rejectAll(error: EngineError): void {
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
  }

  private send(message: ToEngine): void {
    this.worker.postMessage(message);
  }

  private receive(message: FromEngine): void {
    const pending = this.pending.get(message.id);
    if (!pending) return;
    if ('event' in message) {
      pending.event?.(message.event);
      return;
    }
    this.pending.delete(message.id);
    if ('error' in message) pending.reject(new EngineError(message.error.name, message.error.message, message.error.facts));
    else pending.resolve(message.result);
  }
}
