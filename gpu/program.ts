/**
 * A planned graph on a device, replayed: pipelines, buffers and bind groups are made once, a run writes what changed and loops over dispatches.
 */
import { dequantise, isBlocks } from '../core/blocks.ts';
import { type DebugOptions, graphText, planText, shaderTexts } from '../core/debug.ts';
import { type PlannedDispatch, type Value, written } from '../core/dispatch.ts';
import { DeviceError, ShapeError, UserError } from '../core/errors.ts';
import { fromF16 } from '../core/half.ts';
import type { Plan } from '../core/plan.ts';
import { paramBytes, present, storageBytes } from '../core/shader.ts';
import { showShape, sizeOf, type TensorData } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import { fused, plan } from '../kernels/fusion.ts';
import type { Device } from './device.ts';
import { type DividedWork, type Portion, share, type Work } from './pace.ts';
import type { ProgramWeights } from './residency.ts';
import { GPU_COPY_DST, GPU_COPY_SRC, GPU_MAP_READ, GPU_STORAGE, GPU_UNIFORM } from './usage.ts';

/** Values of a run by name: tensors in row-major order, scalars as numbers. What is left out keeps its value from the run before. */
export type RunInputs = Record<string, TensorData | number>;
export type RunOutputs<Names extends string> = Record<Names, Float32Array>;

/** Bytes of an input or a kept result, and a place outside the program where they come from or go to. Numbers in bytes, multiples of 4. */
export interface Transfer {
  /** The input's or the result's name. */
  name: string;
  /** Where in it the bytes begin. */
  at: number;
  bytes: number;
  buffer: GPUBuffer;
  offset: number;
}

/** What a run reads from and writes to buffers that live outside the program. */
export interface Transfers {
  from?: readonly Transfer[];
  to?: readonly Transfer[];
}

export interface CompileOptions {
  /** Results that stay on the device: runs do not return them, but `Transfers.to` may take them elsewhere. */
  kept?: readonly string[];
  /** Another such result, which later runs may take over (`RunOptions.reuse`). */
  reused?: string;
  /** Bytes of buffers for which there must be room beside the program, because they are made right after it. */
  beside?: number;
}

export interface RunOptions extends Transfers {
  /**
   * Takes the result that `CompileOptions.reused` names over from the run before, or from `from`, and computes only what follows it. Results that do not
   * follow are not returned. Default false.
   */
  reuse?: boolean;
}

/** What holds the values of each type on the host; f16 as bit patterns. */
const ARRAYS = { f32: Float32Array, f16: Uint16Array, u32: Uint32Array };

/** From, where in it, to, where in it, bytes. */
type Copy = [GPUBuffer, number, GPUBuffer, number, number];

interface Step {
  pipeline: GPUComputePipeline;
  group: GPUBindGroup;
  dispatch: PlannedDispatch;
  /** What it does, and in how many workgroups. */
  work: DividedWork;
  /** Where its `first_group` lies in the parameter buffer. */
  firstGroup: number;
}

/** Some of a step's workgroups, x by y of them. */
interface Part extends Pick<Step, 'pipeline' | 'group' | 'dispatch'> {
  work: Work;
  x: number;
  y: number;
}

/**
 * Compiles the graph of `outputs` for `device` and loads the weights it reads, as many as the device's budget allows; `signal` stops the loading
 * and later runs. Throws DeviceError when memory does not suffice, UserError when the budget does not, the signal's reason when aborted.
 */
export async function compile<Names extends string>(
  device: Device,
  outputs: Record<Names, Tensor>,
  signal?: AbortSignal,
  { kept = [], reused, beside = 0 }: CompileOptions = {},
): Promise<Program<Names>> {
  const planned = plan(outputs, device.facts, device.gpu.limits, { kept, reused });
  const compiling = pipelinesOf(device, planned);
  compiling.catch(() => undefined); // awaited below
  let program: Program<Names> | null = null;
  try {
    return await device.guard(`placing ${planned.bytes.weights} bytes of weights and ${planned.bytes.total} of activations`, async () => {
      program = new Program<Names>(device, await device.residency.open(planned, signal, beside), kept, reused, signal);
      if (device.debug) printParts(device, device.debug, outputs, program.plan);
      const pipelines = await compiling;
      program.place(program.plan === planned ? pipelines : await pipelinesOf(device, program.plan));
      return program;
    });
  } catch (error) {
    (program as Program<Names> | null)?.discard();
    throw error;
  }
}

/** Prints what the device was asked to print of a program. */
function printParts({ printed }: Device, { parts, print }: DebugOptions, outputs: Record<string, Tensor>, planned: Plan): void {
  if (parts.includes('graph')) print(graphText('graph', outputs));
  if (parts.includes('fused')) print(graphText('fused graph', fused(outputs)));
  if (parts.includes('plan')) print(planText(planned));
  if (!parts.includes('wgsl')) return;
  const shaders = planned.dispatches.map(({ shader }) => shader);
  for (const text of shaderTexts(shaders, printed)) print(text);
}

/** The pipeline of every dispatch; the device's observer is told as those that are not ready are compiled. */
async function pipelinesOf(device: Device, { dispatches }: Plan): Promise<GPUComputePipeline[]> {
  const { observer } = device.clock;
  const all = dispatches.map(({ shader }) => device.pipeline(shader));
  const fresh = new Set(all.filter((pipeline) => device.isCompiling(pipeline)));
  const total = fresh.size;
  let done = 0;
  if (observer && total > 0) {
    await observer.compiling(0, total);
    await Promise.all([...fresh].map((pipeline) => pipeline.then(() => observer.compiling(++done, total))));
  }
  return Promise.all(all);
}

/** Plans, runs and frees a single tensor: `await evaluate(device, add(a, b))`. f16 results come back as f32. */
export async function evaluate(device: Device, output: Tensor, inputs: RunInputs = {}, signal?: AbortSignal): Promise<Float32Array> {
  const program = await compile(device, { output }, signal);
  try {
    return (await program.run(inputs)).output;
  } finally {
    program.dispose();
  }
}

export class Program<Names extends string> {
  readonly plan: Plan;
  private readonly device: Device;
  private readonly weights: ProgramWeights;
  private readonly signal: AbortSignal | undefined;
  private readonly steps: Step[] = [];
  private readonly buffers: GPUBuffer[] = [];
  private readonly inputs = new Map<string, GPUBuffer>();
  private readonly given = new Set<string>();
  private readonly scalars = new Map<string, { value: number; offsets: number[] }>();
  private params = new ArrayBuffer(0);
  /** True while `params` differs from what the GPU has: a refused run may leave scalars behind. */
  private stale = false;
  private paramBuffer: GPUBuffer | null = null;
  private readonly kept: readonly string[];
  private readonly reused: string | undefined;
  /** Whether the reused result has values. */
  private hasReusable = false;
  /** Null where all results are kept. */
  private staging: GPUBuffer | null = null;
  private disposed = false;
  private hasRun = false;
  /** True until what runs once has run with the inputs and the weights of now. */
  private outdated = true;
  private uploads = 0;
  /** Results that come back, each with its place in `staging`; and those that stay. */
  private outputs: { name: Names; value: Value; buffer: GPUBuffer; from: number; offset: number }[] = [];
  private readonly keptBuffers = new Map<string, GPUBuffer>();
  private running: Promise<unknown> = Promise.resolve();

  constructor(device: Device, weights: ProgramWeights, kept: readonly string[], reused?: string, signal?: AbortSignal) {
    this.device = device;
    this.plan = weights.plan;
    this.weights = weights;
    this.kept = kept;
    this.reused = reused;
    this.signal = signal;
    for (const name of this.plan.scalars) this.scalars.set(name, { value: Number.NaN, offsets: [] });
  }

  /** Creates buffers and bind groups; called once by `compile`. */
  place(pipelines: GPUComputePipeline[]): void {
    const { device, plan, weights } = this;
    const reused = this.reused === undefined ? undefined : plan.outputs.get(this.reused)!.storage;
    const slots = plan.slots.map((bytes, i) => {
      const isFilled = reused?.kind === 'pooled' && reused.slot === i; // from outside, by `Transfers.from`
      return this.own(`slot ${i}`, bytes, GPU_STORAGE | GPU_COPY_SRC | (isFilled ? GPU_COPY_DST : 0));
    });
    const fixed = new Map<object, GPUBuffer>();
    for (const storage of plan.fixed) {
      if (storage.kind === 'parameter') continue;
      const label = storage.kind === 'input' ? storage.name : 'constant';
      const buffer = this.own(label, storage.bytes, GPU_STORAGE | GPU_COPY_DST | GPU_COPY_SRC);
      fixed.set(storage, buffer);
      if (storage.kind === 'input') this.inputs.set(storage.name, buffer);
      else if (storage.kind === 'constant') this.write(buffer, storage.data);
    }
    const placeOf = ({ storage, begins = 0 }: Value, dispatch: number): { buffer: GPUBuffer; offset: number; size: number } => {
      const size = storage.bytes - begins;
      if (storage.kind === 'parameter') {
        const { buffer, offset } = weights.at(storage.parameter, dispatch);
        return { buffer, offset: offset + begins, size };
      }
      return { buffer: storage.kind === 'pooled' ? slots[storage.slot] : fixed.get(storage)!, offset: begins, size };
    };

    this.params = new ArrayBuffer(plan.bytes.params);
    this.paramBuffer = this.own('parameters', plan.bytes.params, GPU_UNIFORM | GPU_COPY_DST);
    plan.dispatches.forEach((dispatch, i) => {
      this.writeParams(dispatch, plan.paramOffsets[i]);
      const { bytes, firstGroup } = paramBytes(dispatch.shader);
      const entries = dispatch.operands.map((operand, binding) => ({
        binding: binding + 1,
        resource: placeOf(operand, i),
      }));
      const uniform = {
        binding: 0,
        resource: { buffer: this.paramBuffer!, offset: plan.paramOffsets[i], size: bytes },
      };
      const group = device.gpu.createBindGroup({
        label: dispatch.label,
        layout: pipelines[i].getBindGroupLayout(0),
        entries: [uniform, ...entries],
      });
      const work = { flops: dispatch.flops, bytes: dispatch.bytes, groups: Math.ceil(dispatch.threads / dispatch.shader.workgroup) };
      this.steps.push({ pipeline: pipelines[i], group, dispatch, work, firstGroup: plan.paramOffsets[i] + firstGroup });
    });
    device.gpu.queue.writeBuffer(this.paramBuffer, 0, this.params);

    let size = 0;
    for (const [name, value] of plan.outputs) {
      const { buffer, offset: from } = placeOf(value, plan.dispatches.length);
      if (name === this.reused || this.kept.includes(name)) {
        this.keptBuffers.set(name, buffer);
        continue;
      }
      this.outputs.push({ name: name as Names, value, buffer, from, offset: size });
      size += storageBytes(value.dtype, sizeOf(value.shape));
    }
    if (size > 0) this.staging = this.own('results', plan.bytes.results, GPU_MAP_READ | GPU_COPY_DST);
  }

  /**
   * Runs the program, after it took inputs from other buffers and before it gives kept results to others; ends without waiting for the GPU where
   * no result comes back. Calls queue behind one another. Throws UserError for unknown or missing names, and where nothing is there to be reused;
   * ShapeError for wrong sizes.
   */
  run(inputs: RunInputs = {}, options: RunOptions = {}): Promise<RunOutputs<Names>> {
    const run = () => this.runNow(inputs, options);
    const result = this.running.then(() => (this.hasRun ? run() : this.device.whilePlacing(run)));
    this.running = result.catch(() => undefined);
    return result;
  }

  private async runNow(inputs: RunInputs, { from = [], to = [], reuse = false }: RunOptions): Promise<RunOutputs<Names>> {
    const { device, plan, staging, weights, signal } = this;
    if (this.disposed) throw new UserError('This program was disposed.');
    device.check();
    for (const { name } of from) if (this.inputs.has(name)) this.take(name);
    this.accept(inputs);
    this.copy(
      from.map(({ name, at, bytes, buffer, offset }) => [
        buffer,
        offset,
        this.bufferOf(name, name === this.reused ? this.keptBuffers : this.inputs),
        at,
        bytes,
      ]),
    );
    this.hasReusable ||= from.some(({ name }) => name === this.reused);
    if (reuse && !this.hasReusable) throw new UserError('This program has no result of an earlier run to take over.');
    if (!reuse) this.hasReusable = false; // until it is whole again
    const computed = reuse ? plan.reusing! : null;
    const { uploads } = device.residency;
    const again = this.outdated || uploads !== this.uploads;
    for (const segment of weights.placement.segments) {
      if (segment.from < plan.once && !again) continue;
      const steps = this.steps.slice(segment.from, segment.to).filter(({ dispatch }) => computed?.has(dispatch) ?? true);
      if (steps.length === 0) continue;
      await weights.fill(segment, computed, signal);
      await this.submitAll(steps);
    }
    const made = computed && new Set([...computed].flatMap(written));
    const outputs = this.outputs.filter(({ value: { storage } }) => !made || storage.kind !== 'pooled' || made.has(storage));
    this.copy([
      ...to.map(({ name, at, bytes, buffer, offset }): Copy => [this.bufferOf(name, this.keptBuffers), at, buffer, offset, bytes]),
      ...outputs.map(
        ({ value, buffer, from, offset }): Copy => [buffer, from, staging!, offset, storageBytes(value.dtype, sizeOf(value.shape))],
      ),
    ]);
    this.hasRun = true;
    if (!reuse) {
      this.hasReusable = this.reused !== undefined;
      this.outdated = false;
      this.uploads = uploads;
    }
    if (!staging) {
      await device.profile?.collect(device);
      return {} as RunOutputs<Names>;
    }
    try {
      await device.settle(staging.mapAsync(1));
    } catch (error) {
      const failure = await device.failureBehind(error);
      if (failure instanceof DeviceError) throw failure;
      device.check();
      throw new DeviceError(`Reading results back failed: ${(error as Error).message}`);
    }
    const bytes = staging.getMappedRange().slice(0);
    staging.unmap();
    device.check();
    await device.clock.told();
    await device.profile?.collect(device);
    return Object.fromEntries(outputs.map(({ name, value, offset }) => [name, decode(bytes, offset, value)])) as RunOutputs<Names>;
  }

  /** Submits steps in portions that the device's pace allows; the last ones may be under way when this returns. Throws the signal's reason. */
  private async submitAll(steps: readonly Step[]): Promise<void> {
    const { device, signal } = this;
    const most = device.gpu.limits.maxComputeWorkgroupsPerDimension;
    const submits = device.pace.submits(
      steps.map(({ work }) => work),
      most,
    );
    for (const portions of submits) {
      await device.clock.room();
      signal?.throwIfAborted();
      const [{ dispatch, groups }] = portions;
      const divided = groups < steps[dispatch].work.groups;
      if (divided) this.beginAt(steps[dispatch], portions[0].first);
      const encoder = device.gpu.createCommandEncoder();
      this.encode(
        encoder,
        portions.map((portion) => partOf(steps[portion.dispatch], portion, most)),
      );
      device.gpu.queue.submit([encoder.finish()]);
      if (divided) this.beginAt(steps[dispatch], 0);
      device.clock.submitted(portions.map((portion) => share(steps[portion.dispatch].work, portion)));
    }
  }

  /** The workgroup at which the step begins in what is submitted from now on. */
  private beginAt({ firstGroup }: Step, group: number): void {
    this.device.gpu.queue.writeBuffer(this.paramBuffer!, firstGroup, Uint32Array.of(group));
  }

  private bufferOf(name: string, among: ReadonlyMap<string, GPUBuffer>): GPUBuffer {
    const buffer = among.get(name);
    if (!buffer) throw new UserError(`This program takes or keeps nothing called '${name}'; it has: ${[...among.keys()].join(', ')}.`);
    return buffer;
  }

  private copy(copies: Copy[]): void {
    if (copies.length === 0) return;
    const encoder = this.device.gpu.createCommandEncoder();
    for (const copy of copies) encoder.copyBufferToBuffer(...copy);
    this.device.gpu.queue.submit([encoder.finish()]);
  }

  private encode(encoder: GPUCommandEncoder, steps: Part[]): void {
    const { profile } = this.device;
    if (profile) {
      profile.encode(this.device, encoder, steps);
      return;
    }
    const pass = encoder.beginComputePass();
    for (const { pipeline, group, x, y } of steps) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(x, y);
    }
    pass.end();
  }

  private accept(inputs: RunInputs): void {
    for (const [name, value] of Object.entries(inputs)) {
      const scalar = this.scalars.get(name);
      const buffer = this.inputs.get(name);
      if (scalar && typeof value === 'number') {
        if (!Number.isFinite(value)) throw new UserError(`The value of '${name}' is ${value}; it must be a finite number.`);
        if (scalar.value === value) continue;
        scalar.value = value;
        this.outdated ||= this.plan.seldom.has(name);
        for (const offset of scalar.offsets) new DataView(this.params).setFloat32(offset, value, true);
        this.stale = true;
      } else if (buffer && typeof value !== 'number') {
        const { shape, dtype } = this.plan.inputs.get(name)!;
        const kind = ARRAYS[dtype as keyof typeof ARRAYS];
        if (!(value instanceof kind))
          throw new UserError(`Input '${name}' is ${dtype} and takes a ${kind.name}, not a ${value.constructor.name}.`);
        if (value.length !== sizeOf(shape))
          throw new ShapeError(`Input '${name}' has ${value.length} values; its shape is ${showShape(shape)}.`);
        this.write(buffer, value);
        this.take(name);
      } else {
        throw new UserError(
          `This program has no ${typeof value === 'number' ? 'scalar' : 'tensor'} input '${name}'; it has: ${[...this.inputs.keys(), ...this.scalars.keys()].join(', ')}.`,
        );
      }
    }
    const missing = [...this.inputs.keys()].filter((name) => !this.given.has(name));
    for (const [name, { value }] of this.scalars) if (Number.isNaN(value)) missing.push(name);
    if (missing.length) throw new UserError(`Inputs without a value: ${missing.join(', ')}.`);
    if (this.stale) this.device.gpu.queue.writeBuffer(this.paramBuffer!, 0, this.params);
    this.stale = false;
  }

  /** An input has values, and others than before. */
  private take(name: string): void {
    this.given.add(name);
    this.outdated ||= this.plan.seldom.has(name);
  }

  private writeParams(dispatch: PlannedDispatch, offset: number): void {
    const view = new DataView(this.params);
    present(dispatch.shader.params).forEach(([, type], i) => {
      const param = dispatch.params[i];
      const at = offset + i * 4;
      if (typeof param === 'object') {
        if (type !== 'f32') throw new Error(`${dispatch.label}: scalar '${param.name}' must be an f32 parameter`);
        this.scalars.get(param.name)!.offsets.push(at);
      } else if (type === 'f32') view.setFloat32(at, Number(param), true);
      else if (type === 'i32') view.setInt32(at, Number(param), true);
      else view.setUint32(at, Number(param), true);
    });
  }

  private write(buffer: GPUBuffer, data: TensorData): void {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const padded = bytes.length % 4 === 0 ? bytes : Uint8Array.from({ length: Math.ceil(bytes.length / 4) * 4 }, (_, i) => bytes[i] ?? 0);
    this.device.gpu.queue.writeBuffer(buffer, 0, padded);
  }

  private own(label: string, bytes: number, usage: number): GPUBuffer {
    const buffer = this.device.buffer(label, bytes, usage);
    this.buffers.push(buffer);
    return buffer;
  }

  /** Disposes of a program that could not be placed, with the weights that were loaded for it. */
  discard(): void {
    this.dispose();
    this.weights.discard();
  }

  /** Frees every buffer of the program; weights stay until their room is needed. */
  dispose(): void {
    this.weights.close();
    for (const buffer of this.buffers.splice(0)) this.device.release(buffer);
    this.staging = null;
    this.disposed = true;
  }
}

/** A portion's workgroups, in a grid of at most `most` columns. */
function partOf({ pipeline, group, dispatch, work }: Step, portion: Portion, most: number): Part {
  const { groups } = portion;
  const x = Math.min(groups, most);
  return { pipeline, group, dispatch, work: share(work, portion), x, y: Math.ceil(groups / x) };
}

function decode(bytes: ArrayBuffer, offset: number, value: Value): Float32Array {
  const count = sizeOf(value.shape);
  if (value.dtype === 'f32') return new Float32Array(bytes, offset, count).slice();
  if (isBlocks(value.dtype)) return dequantise(value.dtype, new Uint8Array(bytes, offset, storageBytes(value.dtype, count)), count);
  if (value.dtype === 'u32') return Float32Array.from(new Uint32Array(bytes, offset, count));
  return Float32Array.from(new Uint16Array(bytes, offset, count), fromF16);
}
