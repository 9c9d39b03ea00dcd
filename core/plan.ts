/**
 * The plan of a graph: its dispatches in order, and a place for every intermediate in a few reused buffers. Nothing is allocated here, so
 * the memory a program will need is known before it runs (and on a machine that could not run it).
 */
import type { AdapterFacts } from './adapter.ts';
import { ShapeError } from './errors.ts';
import { inputsOf, topological } from './graph.ts';
import type { Operand } from './lowering.ts';
import type { Scalar } from './scalar.ts';
import { type DType, paramBytes, present, type ShaderSpec, storageBytes } from './shader.ts';
import { type Shape, showShape, sizeOf, type TensorData } from './shape.ts';
import { describe, type OpTensor, type Parameter, type Tensor } from './tensor.ts';

/** Where a value's bytes are. Pooled storage is placed in a slot; the others have buffers of their own. */
export type Storage =
  | { kind: 'pooled'; bytes: number; slot: number; last: number }
  | { kind: 'input'; bytes: number; name: string }
  | { kind: 'constant'; bytes: number; data: TensorData }
  | { kind: 'parameter'; bytes: number; parameter: Parameter };

export interface Value extends Operand {
  storage: Storage;
}

/** A value, or one that is nowhere whole. */
type Place = Value | (Operand & { parts: readonly Value[] });

export interface PlannedDispatch {
  shader: ShaderSpec;
  /** In order of the shader's bindings. */
  operands: Value[];
  /** In order of the shader's parameters. */
  params: (Scalar | boolean)[];
  threads: number;
  /** The operation, its shapes and its weight, for messages and profiles. */
  label: string;
  /** The module that it computes for (scope.ts). */
  module: object | null;
  /** Floating-point operations it computes. */
  flops: number;
  /** Bytes of its operands, each counted once: the least that it moves. */
  bytes: number;
}

export interface Plan {
  dispatches: PlannedDispatch[];
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
   * back; `total` is their sum. `weights` are apart, because programs share them.
   */
  bytes: { intermediates: number; inputs: number; params: number; results: number; total: number; weights: number };
}

export interface PlanLimits {
  maxStorageBufferBindingSize: number;
  minUniformBufferOffsetAlignment: number;
}

/**
 * Plans the graph of `outputs` as it is; to have it fused before, see kernels/fusion.ts. Those that `kept` names stay on the device, so they have no
 * part in `bytes.results`. Throws ShapeError when a tensor exceeds the largest binding, naming it and the limit.
 */
export function planGraph(outputs: Record<string, Tensor>, facts: AdapterFacts, limits: PlanLimits, kept: readonly string[] = []): Plan {
  const order = topological(Object.values(outputs));
  const values = new Map<Tensor, Place>();
  const inParts = takenInParts(order, Object.values(outputs));
  const result: Plan = {
    dispatches: [],
    flops: 0,
    inputs: new Map(),
    scalars: new Set(),
    outputs: new Map(),
    slots: [],
    fixed: new Set(),
    paramOffsets: [],
    bytes: { intermediates: 0, inputs: 0, params: 0, results: 0, total: 0, weights: 0 },
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
    if (source.kind === 'input') return { kind: 'input', bytes, name: source.name };
    if (source.kind === 'constant') return { kind: 'constant', bytes, data: source.data };
    if (source.kind !== 'parameter') throw new Error('an operation has no fixed storage');
    let storage = parameterStorage.get(source.parameter);
    if (!storage) parameterStorage.set(source.parameter, (storage = { kind: 'parameter', bytes, parameter: source.parameter }));
    return storage;
  };

  /** What each tensor's dispatches write. */
  const born: Pooled[][] = [];
  const pooled = (bytes: number, index: number): Pooled => {
    const storage: Pooled = { kind: 'pooled', bytes, slot: -1, last: index };
    born[index].push(storage);
    return storage;
  };
  order.forEach((tensor, index) => {
    const { shape, dtype, source } = tensor;
    const label = describe(tensor);
    const bytes = storageBytes(dtype, sizeOf(shape));
    born.push([]);
    if (source.kind !== 'op') {
      if (source.kind === 'parameter' && source.parameter.dtype !== dtype)
        throw new ShapeError(
          `${label} was traced as ${dtype} and is stored as ${source.parameter.dtype} since: trace the graph after its weights are attached.`,
        );
      const value = { shape, dtype, label, storage: fixedStorage(tensor, check(label, bytes)) };
      result.fixed.add(value.storage);
      values.set(tensor, value);
      if (source.kind === 'input') addInput(result, source.name, value);
      return;
    }
    const inputs = Object.fromEntries(
      Object.entries(source.inputs).map(([name, input]) => [name, input && use(values.get(input)!, index)]),
    ) as Record<string, Value | null>;
    const places = inputsOf(tensor).map((input) => values.get(input) as Value);
    if (inParts.has(tensor)) {
      values.set(tensor, { shape, dtype, label, parts: places });
      return;
    }
    if (!source.op.lower) {
      values.set(tensor, { ...places[0], shape, dtype, label });
      return;
    }
    const output: Value = { shape, dtype, label, storage: pooled(check(label, bytes), index) };
    const read = inputsOf(tensor);
    const weight = read.find((input) => input.source.kind === 'parameter');
    const title = `${source.op.name} ${read.map((input) => showShape(input.shape)).join(' ')}${weight ? ` [${describe(weight)}]` : ''}`;
    let flops = source.op.flops?.(source.inputs, tensor, source.attrs) ?? 0;
    result.flops += flops;
    source.op.lower(inputs, output, source.attrs, {
      facts,
      scratch(name: string, scratchShape: Shape, scratchType: DType = 'f32') {
        const size = check(`${name} of ${label}`, storageBytes(scratchType, sizeOf(scratchShape)));
        return { shape: scratchShape, dtype: scratchType, label: name, storage: pooled(size, index) } as Value;
      },
      dispatch({ shader, operands: given, params: numbers, threads, flops: own }) {
        const operands = inOrder<Operand>(shader.bindings, given, title) as Value[];
        const params = inOrder<Scalar | boolean>(shader.params, numbers, title);
        for (const param of params) if (typeof param === 'object') result.scalars.add(param.name);
        const moved = operands.reduce((sum, operand) => sum + storageBytes(operand.dtype, sizeOf(operand.shape)), 0);
        result.dispatches.push({
          shader,
          operands,
          params,
          threads,
          label: title,
          module: tensor.module,
          flops: own ?? flops,
          bytes: moved,
        });
        flops = 0;
      },
    });
    values.set(tensor, output);
  });

  for (const [name, tensor] of Object.entries(outputs))
    result.outputs.set(name, use(values.get(tensor)!, Number.POSITIVE_INFINITY) as Value);
  result.slots = placeInSlots(born);
  for (const storage of result.fixed) result.bytes[storage.kind === 'parameter' ? 'weights' : 'inputs'] += storage.bytes;
  const { bytes } = result;
  bytes.intermediates = result.slots.reduce((sum, slot) => sum + slot, 0);
  for (const { shader } of result.dispatches) {
    result.paramOffsets.push(bytes.params);
    bytes.params += Math.ceil(paramBytes(shader).bytes / limits.minUniformBufferOffsetAlignment) * limits.minUniformBufferOffsetAlignment;
  }
  bytes.params = Math.max(16, bytes.params);
  for (const [name, { dtype, shape }] of result.outputs) if (!kept.includes(name)) bytes.results += storageBytes(dtype, sizeOf(shape));
  bytes.total = bytes.intermediates + bytes.inputs + bytes.params + bytes.results;
  return result;
}

/** Values in the order in which a shader declares their names. Throws where one is missing, or stands for nothing that the shader declares. */
function inOrder<T>(declared: object, given: object, title: string): T[] {
  const [names, values] = [declared, given].map((fields) => new Map<string, unknown>(present(fields as Record<string, unknown>)));
  for (const name of names.keys()) if (!values.has(name)) throw new Error(`${title}: nothing is given for ${name}`);
  for (const name of values.keys()) if (!names.has(name)) throw new Error(`${title}: the shader declares no ${name}`);
  return [...names.keys()].map((name) => values.get(name) as T);
}

type Pooled = Extract<Storage, { kind: 'pooled' }>;

/** Extends the life of a value's storage to the step that reads it. */
function use(place: Place, step: number): Place {
  for (const { storage } of 'storage' in place ? [place] : place.parts)
    if (storage.kind === 'pooled') storage.last = Math.max(storage.last, step);
  return place;
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

/**
 * Greedy placement by size: the largest storage first, each takes the smallest slot that nobody else has while it lives, else opens a new one
 * of its size. (Pisarchyk & Lee 2020, arXiv 2001.03288, sec. 4.3) Every storage has a slot to itself while it lives, for WebGPU forbids reading
 * and writing one buffer in one dispatch.
 */
function placeInSlots(born: Pooled[][]): number[] {
  const slots: { bytes: number; lives: { from: number; to: number }[] }[] = [];
  const storages = born.flatMap((list, from) => list.map((storage) => ({ storage, from, to: storage.last })));
  for (const { storage, from, to } of storages.sort((a, b) => b.storage.bytes - a.storage.bytes)) {
    // Slots are in order of size, the smallest last.
    let best = slots.findLastIndex(({ lives }) => lives.every((life) => life.to < from || life.from > to));
    if (best < 0) best = slots.push({ bytes: storage.bytes, lives: [] }) - 1;
    slots[best].lives.push({ from, to });
    storage.slot = best;
  }
  return slots.map(({ bytes }) => bytes);
}

function addInput(into: Plan, name: string, value: Value): void {
  if (into.inputs.has(name)) throw new ShapeError(`Two inputs of one program are called '${name}'.`);
  into.inputs.set(name, value);
}
