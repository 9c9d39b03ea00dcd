/**
 * The plan of a graph: its dispatches in order, and a place for every intermediate in a few reused buffers. Nothing is allocated here, so
 * the memory a program will need is known before it runs (and on a machine that could not run it).
 */
import type { AdapterFacts } from './adapter.ts';
import type { PlannedDispatch, Storage, Value } from './dispatch.ts';
import { ShapeError } from './errors.ts';
import { inputsOf, topological } from './graph.ts';
import { changesOf, hoist } from './hoist.ts';
import type { Operand } from './lowering.ts';
import { withoutRepeats } from './repeats.ts';
import { dispatchesAfter } from './reuse.ts';
import type { Scalar } from './scalar.ts';
import { type DType, paramBytes, storageBytes } from './shader.ts';
import { type Shape, showShape, sizeOf } from './shape.ts';
import { describe, type OpTensor, type Parameter, type Tensor } from './tensor.ts';

/** A value, or one that is nowhere whole. */
type Place = Value | (Operand & { parts: readonly Value[] });

export interface Plan {
  dispatches: PlannedDispatch[];
  /** How many of them, the first ones, run only after one of `seldom` was given: their results stay between runs (hoist.ts). */
  once: number;
  /** The inputs and scalars that they read. */
  seldom: Set<string>;
  /** What a run computes that takes one of the results over from the run before (reuse.ts); null where none is meant for that. */
  reusing: ReadonlySet<PlannedDispatch> | null;
  /** The same without dispatches that run once, for where there is no room for their results. */
  unhoisted(): Plan;
  /** Floating-point operations by the operations' definitions; Winograd's convolutions compute fewer. */
  flops: number;
  inputs: Map<string, Value>;
  scalars: Set<string>;
  outputs: Map<string, Value>;
  /** Bytes of each reused buffer. */
  slots: number[];
  /** Every storage that is not pooled. */
  fixed: Set<Storage>;
  /** Where each dispatch's uniform parameters lie in the program's parameter buffer, in bytes. */
  paramOffsets: number[];
  /**
   * Bytes of every buffer a program of this plan makes: intermediates (slots), inputs and constants, parameters, and results for reading
   * back; `total` is their sum. `hoisted` are those intermediates that stay between runs. `weights` are apart, because programs share them.
   */
  bytes: { intermediates: number; hoisted: number; inputs: number; params: number; results: number; total: number; weights: number };
}

export interface PlanLimits {
  maxStorageBufferBindingSize: number;
  minUniformBufferOffsetAlignment: number;
}

export interface PlanOptions {
  /** Results that stay on the device, so that they have no part in `bytes.results`. */
  kept?: readonly string[];
  /** Another that stays, and lasts from run to run, so that a run may take it over in place of computing it. */
  reused?: string;
  /** Whether what changes seldom comes first and stays. Default true. */
  hoisting?: boolean;
}

/**
 * Plans the graph of `outputs` as it is; to have it fused before, see kernels/fusion.ts. Throws ShapeError when a tensor exceeds the largest binding,
 * naming it and the limit.
 */
export function planGraph(outputs: Record<string, Tensor>, facts: AdapterFacts, limits: PlanLimits, options: PlanOptions = {}): Plan {
  const { kept = [], reused, hoisting = true } = options;
  const order = topological(Object.values(outputs));
  const values = new Map<Tensor, Place>();
  const inParts = takenInParts(order, Object.values(outputs));
  const homes = computedInPlace(order, Object.values(outputs));
  const result: Plan = {
    dispatches: [],
    once: 0,
    seldom: new Set(),
    reusing: null,
    unhoisted: () => planGraph(outputs, facts, limits, { ...options, hoisting: false }),
    flops: 0,
    inputs: new Map(),
    scalars: new Set(),
    outputs: new Map(),
    slots: [],
    fixed: new Set(),
    paramOffsets: [],
    bytes: { intermediates: 0, hoisted: 0, inputs: 0, params: 0, results: 0, total: 0, weights: 0 },
  };

  const check = (label: string, bytes: number) => {
    if (bytes <= limits.maxStorageBufferBindingSize) return bytes;
    throw new ShapeError(
      `${label} needs ${bytes} bytes in one binding, and this adapter allows ${limits.maxStorageBufferBindingSize}. Use a smaller image or tiles.`,
      { values: { bytes, allowed: limits.maxStorageBufferBindingSize } },
    );
  };
  const parameterStorage = new Map<Parameter, Storage>();
  const fixedStorage = (tensor: Tensor, bytes: number): Storage => {
    const source = tensor.source;
    if (source.kind === 'input') return { kind: 'input', bytes, name: source.name, changes: source.changes };
    if (source.kind === 'constant') return { kind: 'constant', bytes, data: source.data };
    if (source.kind !== 'parameter') throw new Error('an operation has no fixed storage');
    let storage = parameterStorage.get(source.parameter);
    if (!storage) parameterStorage.set(source.parameter, (storage = { kind: 'parameter', bytes, parameter: source.parameter }));
    return storage;
  };

  const pooled = (bytes: number): Storage => ({ kind: 'pooled', bytes, slot: -1 });
  const madeStorage = new Map<Tensor, Storage>();
  /** Where what an operation computes lies. */
  const storageOf = (tensor: Tensor): Storage => {
    let storage = madeStorage.get(tensor);
    if (!storage) madeStorage.set(tensor, (storage = pooled(check(describe(tensor), storageBytes(tensor.dtype, tensor.size)))));
    return storage;
  };
  for (const tensor of order) {
    const { shape, dtype, source } = tensor;
    const label = describe(tensor);
    const bytes = storageBytes(dtype, sizeOf(shape));
    if (source.kind !== 'op') {
      if (source.kind === 'parameter' && source.parameter.dtype !== dtype)
        throw new ShapeError(
          `${label} was traced as ${dtype} and is stored as ${source.parameter.dtype} since: trace the graph after its weights are attached.`,
        );
      const value = { shape, dtype, label, storage: fixedStorage(tensor, check(label, bytes)) };
      result.fixed.add(value.storage);
      values.set(tensor, value);
      if (source.kind === 'input') addInput(result, source.name, value);
      continue;
    }
    const inputs = Object.fromEntries(Object.entries(source.inputs).map(([name, input]) => [name, input && values.get(input)!])) as Record<
      string,
      Value | null
    >;
    const places = inputsOf(tensor).map((input) => values.get(input) as Value);
    if (inParts.has(tensor)) {
      values.set(tensor, { shape, dtype, label, parts: places });
      continue;
    }
    if (!source.op.lower) {
      const [{ begins = 0 }] = places;
      values.set(tensor, { ...places[0], shape, dtype, label, begins: begins + (source.op.begins?.(source.attrs) ?? 0) });
      continue;
    }
    const { whole, begins } = homes.get(tensor) ?? { whole: tensor };
    const output: Value = { shape, dtype, label, storage: source.op.inPlace ? places[0].storage : storageOf(whole), begins };
    if (source.op.holds) for (const [name, input] of Object.entries(inputs)) if (input?.storage === output.storage) inputs[name] = null;
    const read = inputsOf(tensor);
    const weight = read.find((input) => input.source.kind === 'parameter');
    const title = `${source.op.name} ${read.map((input) => showShape(input.shape)).join(' ')}${weight ? ` [${describe(weight)}]` : ''}`;
    const flops = source.op.flops?.(source.inputs, tensor, source.attrs) ?? 0;
    result.flops += flops;
    const before = result.dispatches.length;
    let told = false;
    source.op.lower(inputs, output, source.attrs, {
      facts,
      scratch(name: string, scratchShape: Shape, scratchType: DType = 'f32') {
        const size = check(`${name} of ${label}`, storageBytes(scratchType, sizeOf(scratchShape)));
        return { shape: scratchShape, dtype: scratchType, label: name, storage: pooled(size) } as Value;
      },
      dispatch({ shader, operands: given, params: numbers, threads, flops: own }) {
        const operands = inOrder<Operand>(shader.bindings, given, title) as Value[];
        const params = inOrder<Scalar | boolean>(shader.params, numbers, title);
        for (const param of params) if (typeof param === 'object') result.scalars.add(param.name);
        const moved = [...new Set(operands)].reduce((sum, operand) => sum + storageBytes(operand.dtype, sizeOf(operand.shape)), 0);
        result.dispatches.push({
          shader,
          operands,
          params,
          threads,
          label: title,
          module: tensor.module,
          flops: own ?? 0,
          bytes: moved,
        });
        told ||= own !== undefined;
      },
    });
    if (!told && result.dispatches.length > before) result.dispatches[before].flops = flops;
    values.set(tensor, output);
  }

  for (const [name, tensor] of Object.entries(outputs)) result.outputs.set(name, values.get(tensor) as Value);
  for (const storage of result.fixed) result.bytes[storage.kind === 'parameter' ? 'weights' : 'inputs'] += storage.bytes;
  const { bytes } = result;
  const last = new Set([...result.outputs.values()].map(({ storage }) => storage));
  result.dispatches = withoutRepeats(result.dispatches, last);
  // A program that is run again and again: something of it changes seldom, or some of its weights are in training.
  const again =
    changeSeldom(result).size > 0 ||
    [...result.fixed].some((storage) => storage.kind === 'parameter' && changesOf(storage) === 'every run');
  if (hoisting && again) {
    const hoisted = hoist(result.dispatches, bytes.weights);
    Object.assign(result, { dispatches: hoisted.dispatches, once: hoisted.once });
    result.seldom = changeSeldom(result, hoisted.once);
    for (const storage of hoisted.kept) {
      last.add(storage);
      bytes.hoisted += storage.bytes;
    }
  }
  const lasting = new Set<Storage>();
  if (reused !== undefined) {
    const { storage } = result.outputs.get(reused)!;
    lasting.add(storage);
    result.reusing = dispatchesAfter(result.dispatches, storage);
  }
  result.slots = placeInSlots(result.dispatches, last, lasting);
  bytes.intermediates = result.slots.reduce((sum, slot) => sum + slot, 0);
  for (const { shader } of result.dispatches) {
    result.paramOffsets.push(bytes.params);
    bytes.params += Math.ceil(paramBytes(shader).bytes / limits.minUniformBufferOffsetAlignment) * limits.minUniformBufferOffsetAlignment;
  }
  bytes.params = Math.max(16, bytes.params);
  for (const [name, { dtype, shape }] of result.outputs)
    if (name !== reused && !kept.includes(name)) bytes.results += storageBytes(dtype, sizeOf(shape));
  bytes.total = bytes.intermediates + bytes.inputs + bytes.params + bytes.results;
  return result;
}

/** Values in the order in which a shader declares their names. Throws where one is missing, or stands for nothing that the shader declares. */
function inOrder<T>(declared: object, given: object, title: string): T[] {
  const [fields, values] = [declared, given] as Record<string, unknown>[];
  const isThere = (value: unknown) => value !== undefined && value !== null;
  const found: unknown[] = [];
  for (const name of Object.keys(fields)) {
    if (!isThere(fields[name])) continue;
    if (!isThere(values[name])) throw new Error(`${title}: nothing is given for ${name}`);
    found.push(values[name]);
  }
  for (const name of Object.keys(values))
    if (isThere(values[name]) && !isThere(fields[name])) throw new Error(`${title}: the shader declares no ${name}`);
  return found as T[];
}

/** Names of the inputs and scalars that change seldom, among those that the first `count` dispatches read. */
function changeSeldom({ dispatches }: Plan, count = dispatches.length): Set<string> {
  const names = new Set<string>();
  for (const { operands, params } of dispatches.slice(0, count)) {
    for (const { storage } of operands) if (storage.kind === 'input' && storage.changes === 'seldom') names.add(storage.name);
    for (const param of params) if (typeof param === 'object' && param.changes === 'seldom') names.add(param.name);
  }
  return names;
}

/** The tensors that are not put together, because all who read them take them in parts. */
function takenInParts(order: readonly Tensor[], outputs: readonly Tensor[]): Set<Tensor> {
  const found = new Set(order.filter(({ source }, i) => source.kind === 'op' && source.op.joins?.(order[i] as OpTensor<unknown>)));
  for (const output of outputs) found.delete(output);
  for (const reader of order) {
    if (reader.source.kind !== 'op') continue;
    const { op, inputs } = reader.source;
    for (const [name, input] of Object.entries(inputs)) if (input && !op.inParts?.includes(name)) found.delete(input);
  }
  return found;
}

/** The tensors that are computed in a place of another, which alone reads them, and their first byte there. */
function computedInPlace(order: readonly Tensor[], outputs: readonly Tensor[]): Map<Tensor, { whole: Tensor; begins: number }> {
  const readers = new Map<Tensor, number>();
  for (const tensor of [...order.flatMap(inputsOf), ...outputs]) readers.set(tensor, (readers.get(tensor) ?? 0) + 1);
  const found = new Map<Tensor, { whole: Tensor; begins: number }>();
  for (const whole of order) {
    const { source } = whole;
    if (source.kind !== 'op' || !source.op.holds) continue;
    const begins = source.op.holds(source.attrs);
    inputsOf(whole).forEach((input, i) => {
      const made = underView(input, (tensor) => readers.get(tensor) === 1);
      if (made && made.dtype === 'f32') found.set(made, { whole, begins: begins[i] });
    });
  }
  return found;
}

/** What an operation computes for a tensor to be seen from its first element on; null where `holds` is not true of it and of all views between. */
function underView(tensor: Tensor, holds: (tensor: Tensor) => boolean): Tensor | null {
  if (!holds(tensor) || tensor.source.kind !== 'op') return null;
  const { op } = tensor.source;
  if (op.lower) return op.inPlace || op.holds ? null : tensor;
  return op.begins ? null : underView(inputsOf(tensor)[0], holds);
}

/**
 * Greedy placement by size: the largest storage first, each takes the smallest slot that nobody else has while it lives, else opens a new one
 * of its size. (Pisarchyk & Lee 2020, arXiv 2001.03288, sec. 4.3) Every storage has a slot to itself while it lives, for WebGPU forbids reading
 * and writing one buffer in one dispatch. Those of `last` live on after the last dispatch, those of `lasting` from run to run.
 */
function placeInSlots(dispatches: readonly PlannedDispatch[], last: ReadonlySet<Storage>, lasting: ReadonlySet<Storage>): number[] {
  const lives = new Map<Pooled, Life>();
  dispatches.forEach(({ operands }, i) => {
    for (const { storage } of operands) {
      if (storage.kind !== 'pooled') continue;
      const life = lives.get(storage);
      if (life) life.to = Math.max(life.to, i);
      else lives.set(storage, { from: lasting.has(storage) ? 0 : i, to: last.has(storage) ? Number.POSITIVE_INFINITY : i });
    }
  });
  const slots: { bytes: number; lives: Life[] }[] = [];
  for (const [storage, life] of [...lives].sort(([a], [b]) => b.bytes - a.bytes)) {
    // Slots are in order of size, the smallest last.
    let best = slots.findLastIndex(({ lives }) => lives.every(({ from, to }) => to < life.from || from > life.to));
    if (best < 0) best = slots.push({ bytes: storage.bytes, lives: [] }) - 1;
    slots[best].lives.push(life);
    storage.slot = best;
  }
  return slots.map(({ bytes }) => bytes);
}

type Pooled = Extract<Storage, { kind: 'pooled' }>;

/** The first and the last dispatch that touch a storage. */
interface Life {
  from: number;
  to: number;
}

function addInput(into: Plan, name: string, value: Value): void {
  if (into.inputs.has(name)) throw new ShapeError(`Two inputs of one program are called '${name}'.`);
  into.inputs.set(name, value);
}
