/**
 * A driver with faults: WebGPU's objects as a host gives them, in front of a real adapter, that fail as real drivers do. It loses the device at a
 * submit of too many workgroups, drops what is submitted without an error, refuses allocations, and for a while after a loss has no adapter.
 */

export interface Faults {
  /** A submit of more workgroups than these loses the device, as a watchdog does. */
  mostWorkgroups?: number;
  /** Loses the device at the submits of these numbers, counted from 1 over all devices. */
  loseAt?: (submit: number) => boolean;
  /** What the submits of these numbers compute is left undone, without an error. */
  dropAt?: (submit: number, devices: number) => boolean;
  /** Whether what is written to a buffer of that label gets there; without an error. */
  keepsWrite?: (label: string, devices: number) => boolean;
  /** Bytes of all buffers, above which the next one is refused. */
  memory?: number;
  /** Milliseconds in which no adapter answers, from when one is asked for after a loss. */
  nullFor?: number;
  /** What the adapter calls itself. */
  info?: Partial<GPUAdapterInfo>;
}

type Any = Record<PropertyKey, unknown>;

/** Calls go to `target`, those of `own` to what stands there. */
export function over<T extends object>(target: T, own: Partial<Record<keyof T, unknown>>): T {
  return new Proxy(target, {
    get(_, key) {
      if (Object.hasOwn(own, key)) return (own as Any)[key];
      const value = (target as Any)[key];
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

export class FaultyGpu {
  /** May be changed at any time. */
  faults: Faults;
  submits = 0;
  losses = 0;
  devices = 0;
  /** How often an adapter was asked for in vain. */
  refusedAdapters = 0;
  /** Most workgroups of one submit since this was set to 0. */
  largest = 0;
  private readonly real: GPU;
  private nullUntil = 0;
  private wasLost = false;

  constructor(real: GPU, faults: Faults = {}) {
    this.real = real;
    this.faults = faults;
  }

  /** Without faults, and with counts at 0. */
  mend(): void {
    this.faults = {};
    [this.submits, this.losses, this.devices, this.refusedAdapters, this.largest] = [0, 0, 0, 0, 0];
    [this.nullUntil, this.wasLost] = [0, false];
  }

  get gpu(): GPU {
    return over(this.real, { requestAdapter: (options?: GPURequestAdapterOptions) => this.adapter(options) });
  }

  private async adapter(options?: GPURequestAdapterOptions): Promise<GPUAdapter | null> {
    if (this.wasLost) this.nullUntil = performance.now() + (this.faults.nullFor ?? 0);
    this.wasLost = false;
    if (performance.now() < this.nullUntil) {
      this.refusedAdapters++;
      return null;
    }
    const adapter = await this.real.requestAdapter(options);
    if (!adapter) return null;
    const info = this.faults.info ? over(adapter.info, this.faults.info) : adapter.info;
    return over(adapter, { info, requestDevice: async (given?: GPUDeviceDescriptor) => this.device(await adapter.requestDevice(given)) });
  }

  private device(device: GPUDevice): GPUDevice {
    this.devices++;
    const number = this.devices;
    const groups = new WeakMap<object, number>();
    const [computing, scopes, refused]: [WeakSet<object>, string[], string[]] = [new WeakSet(), [], []];
    let bytes = 0;
    let isLost = false;
    const lose = () => {
      if (!isLost) this.losses++;
      [isLost, this.wasLost] = [true, true];
      device.destroy();
    };
    const queue = over(device.queue, {
      writeBuffer: (buffer: GPUBuffer, ...rest: [number, GPUAllowSharedBufferSource]) => {
        if (this.faults.keepsWrite?.(buffer.label, number) ?? true) device.queue.writeBuffer(buffer, ...rest);
      },
      submit: (commands: GPUCommandBuffer[]) => {
        const workgroups = commands.reduce((sum, each) => sum + (groups.get(each) ?? 0), 0);
        this.largest = Math.max(this.largest, workgroups);
        if (commands.length > 0) this.submits++;
        const { mostWorkgroups = Number.POSITIVE_INFINITY, loseAt, dropAt } = this.faults;
        if (workgroups > mostWorkgroups || loseAt?.(this.submits)) return lose();
        device.queue.submit(dropAt?.(this.submits, number) ? commands.filter((each) => !computing.has(each)) : commands);
      },
    });
    return over(device, {
      queue,
      createCommandEncoder: (given?: GPUCommandEncoderDescriptor) => {
        const encoder = device.createCommandEncoder(given);
        let [count, computes] = [0, false];
        return over(encoder, {
          beginComputePass: (pass?: GPUComputePassDescriptor) => {
            computes = true;
            const begun = encoder.beginComputePass(pass);
            return over(begun, {
              dispatchWorkgroups: (x: number, y = 1, z = 1) => {
                count += x * y * z;
                begun.dispatchWorkgroups(x, y, z);
              },
            });
          },
          finish: () => {
            const commands = encoder.finish();
            groups.set(commands, count);
            if (computes) computing.add(commands);
            return commands;
          },
        });
      },
      createBuffer: (given: GPUBufferDescriptor) => {
        const buffer = device.createBuffer(given);
        if (bytes + given.size > (this.faults.memory ?? Number.POSITIVE_INFINITY)) refused.push(`no room for ${given.size} bytes`);
        bytes += given.size;
        const destroy = buffer.destroy.bind(buffer);
        buffer.destroy = () => {
          bytes -= given.size;
          destroy();
        };
        return buffer;
      },
      pushErrorScope: (filter: GPUErrorFilter) => {
        scopes.push(filter);
        device.pushErrorScope(filter);
      },
      popErrorScope: async () => {
        const filter = scopes.pop();
        const message = filter === 'out-of-memory' ? refused.splice(0)[0] : undefined;
        const real = await device.popErrorScope();
        return message === undefined ? real : ({ message } as GPUError);
      },
    });
  }
}
