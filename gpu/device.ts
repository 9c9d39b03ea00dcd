/**
 * One GPU device and what is known of it: facts and limits, buffers counted from birth to death, pipelines compiled once.
 * The GPU object itself comes from a host adapter (host/), so this file runs unchanged in Node, browsers, Deno and Bun.
 */
import { type AdapterFacts, MATRIX_FEATURE, type Machine, type MatrixUnit, type Schedule } from '../core/adapter.ts';
import type { DebugOptions } from '../core/debug.ts';
import { DeviceError, MemoryError, UserError } from '../core/errors.ts';
import type { Plan } from '../core/plan.ts';
import { present, type ShaderSpec, shaderSource } from '../core/shader.ts';
import { unitName } from '../kernels/matrices.ts';
import type { Buffers, MemoryUse } from './buffers.ts';
import { type CardMemory, estimateMemory, triedMemory, UNKNOWN_MACHINE } from './card-memory.ts';
import { Clock } from './clock.ts';
import type { MatrixChoice } from './matrix-choice.ts';
import { type MatrixAdapter, matrixUnits, whyNoMatrices } from './matrix-units.ts';
import { Pace, type Screen } from './pace.ts';
import type { Profile } from './profiler.ts';
import { Residency } from './residency.ts';

export interface OpenOptions {
  /** The host's WebGPU entry point (`navigator.gpu`, or Dawn's in Node). */
  gpu: GPU;
  /** Waits for a GPU promise the way the host does it best; the default simply awaits. */
  settle?: <T>(promise: Promise<T>) => Promise<T>;
  powerPreference?: GPUPowerPreference;
  /** Seconds of work that a submit may hold; less where a screen is to go on moving. Default 0.25. See Pace. */
  submitSeconds?: number;
  /** The screen that this program may be seen on; its submits are much shorter then. Default: nobody sees it. */
  screen?: Screen;
  /** The pace of a device before this one on the same adapter; its submits are then bounded as there. */
  pace?: Pace;
  /** What is known of the machine, to estimate the GPU's memory by. */
  machine?: Machine;
  /** What was found out about that memory on a device before this one. */
  card?: CardMemory;
  /** Default 'auto': by the adapter's facts. 'subgroup' and 'matrix' throw DeviceError on adapters that cannot run them. */
  schedule?: Schedule | 'auto';
  /** Which matrix unit to use: the host's, which remembers what a probe found. Without it 'auto' uses none. */
  chooseMatrixUnit?: (adapter: MatrixAdapter) => Promise<MatrixChoice>;
  /** The matrix unit of the schedule 'matrix', untried. Default: what was chosen, else the first that the adapter has. */
  matrixUnit?: MatrixUnit;
  /** What is printed of each program that is compiled. Default: nothing. */
  debug?: DebugOptions | null;
}

/** Limits that decide what an adapter can run, for reports about it. */
export const TOLD_LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupStorageSize',
] as const;

const SOFTWARE = /llvmpipe|lavapipe|swiftshader|warp|basic render/i;
/** Milliseconds within which a driver tells that a device is lost, once a call failed. */
const LOSS_TOLD = 50;
const WANTED_FEATURES = ['shader-f16', 'subgroups', 'timestamp-query'];
/** What the matrix schedule takes, where it is offered. */
const MATRIX_FEATURES = ['subgroup-size-control', MATRIX_FEATURE];

/** Opens the preferred adapter's device. Throws DeviceError when there is none or only Dawn's null backend, which computes nothing. */
export async function openDevice(options: OpenOptions): Promise<Device> {
  const settle = options.settle ?? ((promise) => promise);
  const adapter = await settle(options.gpu.requestAdapter({ powerPreference: options.powerPreference ?? 'high-performance' }));
  if (!adapter)
    throw new DeviceError('No WebGPU adapter answered: there is no graphics driver that serves it here.', { code: 'no-adapter' });
  const info = adapter.info;
  if (/null/i.test(`${info.vendor} ${info.architecture} ${info.device} ${info.description}`)) {
    throw new DeviceError("Only Dawn's null adapter answered, which accepts commands but computes nothing: a graphics driver is missing.", {
      code: 'null-adapter',
    });
  }
  const limits = adapter.limits;
  const { unit: matrixUnit, why: matrixFindings } = await matrixUnitOf(adapter, options);
  const device = await settle(
    adapter.requestDevice({
      requiredFeatures: [...WANTED_FEATURES, ...(matrixUnit ? MATRIX_FEATURES : [])].filter((feature) =>
        adapter.features.has(feature),
      ) as GPUFeatureName[],
      requiredLimits: {
        maxBufferSize: limits.maxBufferSize,
        maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
        maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
        maxStorageBuffersPerShaderStage: Math.min(limits.maxStorageBuffersPerShaderStage, 10),
      },
    }),
  );
  const features = new Set<string>(device.features);
  if (features.has('subgroups') && !(await settle(compiles(device, SUBGROUP_PROBE)))) features.delete('subgroups');
  const facts: AdapterFacts = {
    vendor: info.vendor,
    architecture: info.architecture,
    device: info.device,
    description: info.description,
    // Some browsers tell no name, but that it is no GPU.
    software: info.isFallbackAdapter || SOFTWARE.test(`${info.vendor} ${info.architecture} ${info.device} ${info.description}`),
    features,
    subgroupSizes: [info.subgroupMinSize ?? 0, info.subgroupMaxSize ?? 0],
    schedule: 'tiled',
  };
  const [smallest, largest] = facts.subgroupSizes;
  const oneSize = features.has('subgroups') && smallest === largest && smallest >= 4 && smallest <= 64;
  if (options.schedule === 'subgroup' && !oneSize)
    throw new DeviceError('This adapter cannot run the subgroup schedule: it needs subgroups of one size between 4 and 64 lanes.');
  if (matrixFindings !== undefined) facts.matrixFindings = matrixFindings;
  if (matrixUnit) Object.assign(facts, { schedule: 'matrix', matrixUnit });
  else if (options.schedule === 'subgroup' || (options.schedule !== 'tiled' && oneSize && facts.software)) facts.schedule = 'subgroup';
  const { submitSeconds: seconds, screen } = options;
  const pace = options.pace ?? new Pace({ seconds, software: facts.software, screen });
  const opened = new Device(device, facts, settle, pace);
  if (screen && !options.pace) pace.roundTrip = await opened.settle(roundTripOf(device));
  opened.debug = options.debug ?? null;
  opened.card = options.card ?? estimateMemory(facts, limits, options.machine ?? UNKNOWN_MACHINE);
  return opened;
}

/** The matrix unit that a device uses. Throws DeviceError where one is asked for and the adapter has none, or none that computes right. */
async function matrixUnitOf(
  adapter: GPUAdapter,
  { schedule = 'auto', matrixUnit, chooseMatrixUnit }: OpenOptions,
): Promise<{ unit: MatrixUnit | null; why?: string }> {
  if (schedule !== 'matrix' && schedule !== 'auto') return { unit: null };
  const units = matrixUnits(adapter);
  const choice = matrixUnit || units.length === 0 ? undefined : await chooseMatrixUnit?.(adapter);
  const why = choice?.why;
  const unit = units.find((each) => choice?.unit && unitName(each) === unitName(choice.unit)) ?? null;
  if (schedule === 'auto') return { unit: choice?.quicker ? unit : null, why };
  const refused = units.length === 0 ? whyNoMatrices(adapter) : choice && !unit ? choice.why : null;
  if (refused !== null)
    throw new DeviceError(
      `This adapter cannot run the matrix schedule: ${refused}. Use the tiled schedule, or leave the choice to the adapter's facts.`,
    );
  return { unit: matrixUnit ?? unit ?? units[0], why };
}

/** Seconds until a host tells the end of nothing: the shorter of two tries, the first of which may begin with other things. */
async function roundTripOf({ queue }: GPUDevice): Promise<number> {
  let shortest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 2; i++) {
    const begun = performance.now();
    await queue.onSubmittedWorkDone();
    shortest = Math.min(shortest, performance.now() - begun);
  }
  return shortest / 1000;
}

/** naga offers the feature but does not parse its directive. */
const SUBGROUP_PROBE = 'enable subgroups;\n@compute @workgroup_size(1) fn main() { _ = subgroupBroadcast(1u, 0u); }';

/** Whether the host's WGSL compiler accepts a module. */
async function compiles(device: GPUDevice, code: string): Promise<boolean> {
  device.pushErrorScope('validation');
  device.createShaderModule({ code });
  return (await device.popErrorScope()) === null;
}

export class Device implements Buffers {
  readonly gpu: GPUDevice;
  readonly facts: AdapterFacts;
  /** Waits for a GPU promise the way the host does it best. Rejects when the device is lost: some drivers never settle what was pending then. */
  readonly settle: <T>(promise: Promise<T>) => Promise<T>;
  /** How much work it is given at once, and when that is done. */
  readonly pace: Pace;
  readonly clock: Clock;
  readonly memory: MemoryUse = { buffers: 0, bytes: 0, peak: 0 };
  /** How much memory may be used: an estimate, until a trial tells more. */
  card: CardMemory;
  /** The weights that programs share. */
  readonly residency: Residency = new Residency(this);
  /** Set to print what programs are made of as they are compiled. */
  debug: DebugOptions | null = null;
  /** Shaders that were printed. */
  readonly printed = new Set<string>();
  /** Set to collect time per kernel; see profiler.ts. */
  profile: Profile | null = null;
  /** By the shader's text, and by the shader, so that texts are made once. */
  private readonly pipelines = new Map<string, Promise<GPUComputePipeline>>();
  private readonly pipelineOf = new WeakMap<ShaderSpec, Promise<GPUComputePipeline>>();
  private readonly unfinished = new Set<Promise<GPUComputePipeline>>();
  /** Time in which at least one pipeline was being compiled, and the pipelines that are. */
  private readonly compiling = { ms: 0, pending: 0, since: 0 };
  private failure: DeviceError | null = null;
  private closed = false;
  /** Programs that are being placed or run for the first time: memory is taken then, also by the driver. */
  private placing = 0;
  /** What gives up a promise that is waited for; and whether the device is lost or closed, so that none may settle. */
  private readonly waiting = new Set<() => void>();
  private mayHang = false;
  private guarded: Promise<unknown> = Promise.resolve();
  private readonly refused = (event: Event): void => {
    this.failure ??= new DeviceError(`The GPU refused a command: ${(event as GPUUncapturedErrorEvent).error.message}`);
  };

  constructor(
    gpu: GPUDevice,
    facts: AdapterFacts,
    settle: <T>(promise: Promise<T>) => Promise<T>,
    pace = new Pace({ software: facts.software }),
  ) {
    this.gpu = gpu;
    this.pace = pace;
    this.facts = facts;
    this.card = estimateMemory(facts, gpu.limits, UNKNOWN_MACHINE);
    this.settle = (promise) => settle(this.orLoss(promise));
    this.clock = new Clock(gpu, pace, this.settle);
    gpu.lost.then((lost) => {
      this.mayHang = true;
      setTimeout(() => {
        for (const giveUp of this.waiting) giveUp();
      }, LOSS_TOLD);
      if (this.closed) return;
      const values = { reason: lost.reason, placing: this.placing > 0 };
      const message = `The GPU device was lost (${lost.reason}): ${lost.message || 'no message from the driver'}`;
      this.failure = new DeviceError(message, { code: 'device-lost', values });
    });
    gpu.addEventListener('uncapturederror', this.refused);
  }

  /** Creates a counted buffer of at least `bytes`. Throws DeviceError above the device's maxBufferSize. */
  buffer(label: string, bytes: number, usage: number): GPUBuffer {
    const size = Math.max(16, Math.ceil(bytes / 16) * 16);
    if (size > this.gpu.limits.maxBufferSize) {
      throw new DeviceError(
        `${label} needs a buffer of ${size} bytes, and this adapter's largest is ${this.gpu.limits.maxBufferSize}. Use a smaller image or tiles.`,
      );
    }
    const buffer = this.gpu.createBuffer({ label, size, usage });
    this.memory.buffers++;
    this.memory.bytes += size;
    this.memory.peak = Math.max(this.memory.peak, this.memory.bytes);
    return buffer;
  }

  /** Destroys a buffer made by `buffer`. */
  release(buffer: GPUBuffer): void {
    this.memory.buffers--;
    this.memory.bytes -= buffer.size;
    buffer.destroy();
  }

  /** The compiled pipeline of a shader; compiled at most once a device, asynchronously. */
  pipeline(spec: ShaderSpec): Promise<GPUComputePipeline> {
    const known = this.pipelineOf.get(spec);
    if (known) return known;
    const code = shaderSource(spec);
    let pipeline = this.pipelines.get(code);
    if (!pipeline) {
      const module = this.gpu.createShaderModule({ label: spec.name, code });
      const layout = this.gpu.createPipelineLayout({
        label: spec.name,
        bindGroupLayouts: [this.gpu.createBindGroupLayout(bindGroupLayout(spec))],
      });
      const pending = this.gpu.createComputePipelineAsync({ label: spec.name, layout, compute: { module, entryPoint: 'main' } });
      if (this.compiling.pending++ === 0) this.compiling.since = performance.now();
      const compiled = this.settle(pending).finally(() => {
        if (--this.compiling.pending === 0) this.compiling.ms += performance.now() - this.compiling.since;
      });
      pipeline = compiled.catch(async (error) => {
        const { messages } = await this.settle(module.getCompilationInfo());
        const why = messages.map(({ lineNum, message }) => `line ${lineNum}: ${message}`).join('; ');
        throw new DeviceError(`The kernel ${spec.name} does not compile on this adapter: ${why || error.message}`);
      });
      this.pipelines.set(code, pipeline);
      const begun = pipeline;
      this.unfinished.add(begun);
      const settled = () => void this.unfinished.delete(begun);
      begun.then(settled, settled);
    }
    this.pipelineOf.set(spec, pipeline);
    return pipeline;
  }

  /**
   * Begins to compile what programs will need: the first of them now, the others while the GPU works. What does not compile is told when its program is
   * made.
   */
  prepare([first, ...others]: readonly Plan[]): void {
    const begin = ({ dispatches }: Plan) => {
      for (const { shader } of dispatches) this.pipeline(shader).catch(() => undefined);
    };
    begin(first);
    this.clock.whenWorking(() => {
      if (!this.isGone) others.forEach(begin);
    });
  }

  /** Whether a pipeline that `pipeline` gave is still being compiled. */
  isCompiling(pipeline: Promise<GPUComputePipeline>): boolean {
    return this.unfinished.has(pipeline);
  }

  /** How many distinct pipelines this device has compiled. */
  get pipelineCount(): number {
    return this.pipelines.size;
  }

  /** Milliseconds during which pipelines were compiled. CPU drivers compile a part of them at their first dispatch, which does not count here. */
  get compileMs(): number {
    return this.compiling.ms;
  }

  /** Throws what went wrong on the device since the last call: loss, out of memory, a refused command. */
  check(): void {
    if (this.failure) throw this.failure;
  }

  /** Whether it was lost or closed: nothing can be computed on it any more. */
  get isGone(): boolean {
    return this.closed || this.failure?.code === 'device-lost';
  }

  /** The loss of the device where that is behind an error, else the error: drivers tell a loss a moment after the calls that failed by it. */
  async failureBehind(error: unknown): Promise<unknown> {
    if (this.closed || error instanceof UserError) return error;
    await Promise.race([this.gpu.lost, new Promise((resolve) => setTimeout(resolve, LOSS_TOLD))]);
    return this.failure?.code === 'device-lost' ? this.failure : error;
  }

  private orLoss<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const giveUp = () => reject(this.failure ?? new DeviceError('The device was closed.'));
      const settled = () => void this.waiting.delete(giveUp);
      this.waiting.add(giveUp);
      if (this.mayHang) setTimeout(giveUp, LOSS_TOLD);
      promise.then(resolve, reject).then(settled, settled);
    });
  }

  /** Counts as placing until `work` is done: a loss meanwhile is probably one of memory. */
  async whilePlacing<T>(work: () => Promise<T>): Promise<T> {
    this.placing++;
    try {
      return await work();
    } catch (error) {
      throw await this.failureBehind(error);
    } finally {
      this.placing--;
    }
  }

  /** Finds out by a trial, where one can tell, whether `wanted` bytes may be used. Throws DeviceError where that loses the device. */
  async findMemory(wanted: number): Promise<void> {
    const card = await this.whilePlacing(() => triedMemory(this.gpu, this.settle, this.card, wanted));
    if (card === this.card) return;
    const failure = await this.failureBehind(null);
    if (failure) throw failure;
    this.card = card;
  }

  /**
   * Runs `body` and turns an out-of-memory or validation error raised meanwhile into a DeviceError that names `what`. Guards wait for one
   * another, because the device has one stack of error scopes.
   */
  guard<T>(what: string, body: () => T | Promise<T>): Promise<T> {
    const result = this.guarded.then(() => this.whilePlacing(() => this.guardNow(what, body)));
    this.guarded = result.catch(() => undefined);
    return result;
  }

  private async guardNow<T>(what: string, body: () => T | Promise<T>): Promise<T> {
    this.check();
    this.gpu.pushErrorScope('out-of-memory');
    this.gpu.pushErrorScope('validation');
    let result: T;
    let scopes: [Promise<GPUError | null>, Promise<GPUError | null>];
    try {
      result = await body();
    } finally {
      scopes = [this.gpu.popErrorScope(), this.gpu.popErrorScope()];
    }
    const [validation, memory] = await this.settle(Promise.all(scopes));
    if (memory)
      throw new MemoryError(
        `Out of GPU memory while ${what}: ${memory.message}. Use a smaller image or tiles, or allow less memory for weights.`,
      );
    if (validation) throw new DeviceError(`The GPU refused a command while ${what}: ${validation.message}`);
    this.check();
    return result;
  }

  /** Gives the device back; nothing made from it may be used afterwards. */
  close(): void {
    this.closed = true;
    // Node's binding holds a listener, and the listener this device, as long as the process lives.
    this.gpu.removeEventListener('uncapturederror', this.refused);
    this.gpu.destroy();
  }
}

function bindGroupLayout(spec: ShaderSpec): GPUBindGroupLayoutDescriptor {
  const visibility = 4; // compute
  const storage = present(spec.bindings).map(([, { write }], i) => ({
    binding: i + 1,
    visibility,
    buffer: { type: (write ? 'storage' : 'read-only-storage') as GPUBufferBindingType },
  }));
  return { label: spec.name, entries: [{ binding: 0, visibility, buffer: { type: 'uniform' } }, ...storage] };
}
