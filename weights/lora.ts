/**
 * Reads LoRA files of every current layout (lora-names.ts) into layers: for each adapted weight the thin matrices to multiply by, or, for
 * DoRA, LoHa and LoKr, the whole difference.
 */
import { UserError } from '../core/errors.ts';
import { decodeF16 } from '../core/half.ts';
import type { Parameter } from '../core/module.ts';
import { type Shape, showShape, sizeOf } from '../core/tensor.ts';
import { factor, hadamard, kronecker, lowRankDelta, type Matrix, magnitudeDelta } from './lora-delta.ts';
import { type LoraRole, type LoraTarget, loraTargets, parseLoraKey } from './lora-names.ts';
import type { TensorFile } from './tensor-file.ts';

/** What is needed of a file. */
export type LoraFile = Pick<TensorFile, 'name' | 'names' | 'info' | 'f32'>;

/** Names listed in one message. */
const LISTED = 10;

/** The change of one weight (or part of one) at strength 1. */
export interface LoraLayer extends LoraTarget {
  /**
   * lowRank: x is multiplied by down (r, I) or (r, I, kh, kw), by mid (r, r, kh, kw) where there is one, and by up (O, r), into which
   * alpha / r is multiplied. dense: the weight's difference, in the shape of the weight or its part.
   */
  change: { kind: 'lowRank'; down: Matrix; mid: Matrix | null; up: Matrix } | { kind: 'dense'; delta: Matrix };
}

export interface Lora {
  /** The file's name. */
  name: string;
  layers: LoraLayer[];
}

type Tensors = Partial<Record<LoraRole, string>>;

/**
 * Reads a LoRA for the model with these weights, which must be named (and have values, for DoRA). Throws UserError listing the tensors that
 * match no weight, and naming those that are missing or have shapes that do not fit.
 */
export async function readLora(file: LoraFile, weights: Iterable<Parameter>): Promise<Lora> {
  const targets = loraTargets(weights);
  const groups = new Map<string, { target: LoraTarget; tensors: Tensors }>();
  const unknown: string[] = [];
  for (const key of file.names()) {
    const parsed = parseLoraKey(key);
    const target = parsed && targets.get(parsed.layer);
    if (!target) {
      unknown.push(key);
      continue;
    }
    const group = groups.get(parsed.layer) ?? { target, tensors: {} };
    group.tensors[parsed.role] = key;
    groups.set(parsed.layer, group);
  }
  if (unknown.length > 0) {
    const more = unknown.length > LISTED ? ` and ${unknown.length - LISTED} more` : '';
    throw new UserError(
      `${file.name}: ${unknown.length} of ${file.names().length} tensors belong to no layer of this model: ${unknown.slice(0, LISTED).join(', ')}${more}. The LoRA was made for another architecture, or is no LoRA.`,
    );
  }
  if (groups.size === 0) throw new UserError(`${file.name} holds no tensors. Give a LoRA file.`);
  const layers: LoraLayer[] = [];
  for (const [layer, { target, tensors }] of groups) layers.push({ ...target, change: await readLayer(file, layer, target, tensors) });
  return { name: file.name, layers };
}

async function readLayer(file: LoraFile, layer: string, target: LoraTarget, tensors: Tensors): Promise<LoraLayer['change']> {
  const fail = (why: string) =>
    new UserError(`${file.name}, layer ${layer}: ${why}. The file is damaged, or the LoRA was made for another architecture.`);
  const get = async (role: LoraRole): Promise<Matrix | null> => {
    const key = tensors[role];
    return key === undefined ? null : { data: await file.f32(key), shape: file.info(key).shape };
  };
  const need = async (role: LoraRole): Promise<Matrix> => {
    const matrix = await get(role);
    if (!matrix) throw fail(`it has ${Object.values(tensors).join(', ')}, but no ${role}`);
    return matrix;
  };
  const shape = targetShape(target);
  const dense = (data: ArrayLike<number>): Matrix => {
    if (data.length !== sizeOf(shape))
      throw fail(`its factors make ${data.length} values for ${target.parameter.name}, ${showShape(shape)}`);
    return { data, shape };
  };
  const alpha = (await get('alpha'))?.data[0];
  const scaled = (data: Float64Array, rank: number) => (alpha === undefined ? data : data.map((value) => (value * alpha) / rank));
  try {
    if (tensors.hada_w1_a) {
      const [w1b, t1, t2] = [await need('hada_w1_b'), await get('hada_t1'), await get('hada_t2')];
      const w1 = factor(await need('hada_w1_a'), w1b, t1);
      const w2 = factor(await need('hada_w2_a'), await need('hada_w2_b'), t2);
      return { kind: 'dense', delta: dense(scaled(hadamard(w1, w2), w1b.shape[0])) };
    }
    if (Object.keys(tensors).some((role) => role.startsWith('lokr'))) return { kind: 'dense', delta: dense(await readKronecker()) };

    const [down, mid, up, magnitude] = [await need('down'), await get('mid'), await need('up'), await get('magnitude')];
    const rank = up.shape[1];
    if (down.shape[0] !== (mid ? mid.shape[1] : rank) || (mid && mid.shape[0] !== rank))
      throw fail(`the ranks of ${showShape(down.shape)}${mid ? `, ${showShape(mid.shape)}` : ''} and ${showShape(up.shape)} differ`);
    const [outs, ins, ...window] = shape;
    const taps = sizeOf(window);
    const downTaps = sizeOf(down.shape.slice(2));
    const fits = up.shape[0] === outs && down.shape[1] === ins && sizeOf(up.shape) === outs * rank && (mid ? 1 : taps) === downTaps;
    if (!fits || (mid && sizeOf(mid.shape.slice(2)) !== taps))
      throw fail(`${showShape(down.shape)} and ${showShape(up.shape)} do not fit ${target.parameter.name}, ${showShape(shape)}`);
    const scaledUp = scaled(Float64Array.from(up.data), rank);
    const change = { down: fitted(down, mid ? [] : window), mid, up: { data: Float32Array.from(scaledUp), shape: [outs, rank] } };
    if (!magnitude) return { kind: 'lowRank', ...change };
    const delta = lowRankDelta(change.down, mid, { data: scaledUp, shape: [outs, rank] });
    return { kind: 'dense', delta: dense(magnitudeDelta(await baseOf(target), delta, magnitude)) };
  } catch (error) {
    throw error instanceof UserError && !error.message.startsWith(file.name) ? fail(error.message.replace(/\.$/, '')) : error;
  }

  async function readKronecker(): Promise<Float64Array> {
    const side = async (n: 1 | 2): Promise<{ matrix: Matrix; rank: number | null }> => {
      const whole = await get(`lokr_w${n}`);
      if (whole) return { matrix: whole, rank: null };
      const [a, b, t] = [await need(`lokr_w${n}_a`), await need(`lokr_w${n}_b`), n === 2 ? await get('lokr_t2') : null];
      const made = factor(a, b, t);
      const made2 = t ? [a.shape[1], b.shape[1], ...t.shape.slice(2)] : [a.shape[0], ...b.shape.slice(1)];
      // Without a window of its own, b holds input channels and taps in one dimension.
      const taps = sizeOf(shape.slice(2));
      const split = n === 2 && !t && taps > 1 && made2.length === 2 ? [made2[0], made2[1] / taps, ...shape.slice(2)] : made2;
      return { matrix: { data: made, shape: split }, rank: b.shape[0] };
    };
    const [w1, w2] = [await side(1), await side(2)];
    const rank = w2.rank ?? w1.rank;
    // Two whole factors have no rank, and alpha then means nothing.
    return rank === null ? kronecker(w1.matrix, w2.matrix) : scaled(kronecker(w1.matrix, w2.matrix), rank);
  }
}

/** The shape of the weight, or of the part of it that is adapted. */
export function targetShape({ parameter, parts }: LoraTarget): Shape {
  return [parameter.shape[0] / parts, ...parameter.shape.slice(1)];
}

/** down with a window of 1x1 added or dropped, as its weight has it. */
function fitted(down: Matrix, window: Shape): Matrix {
  return { data: down.data, shape: [down.shape[0], down.shape[1], ...window] };
}

/** The values of the weight itself, or of its part. Throws UserError when it has none. */
export async function baseOf(target: LoraTarget): Promise<Matrix> {
  const { parameter, part } = target;
  if (!parameter.source) throw new UserError(`The weight ${parameter.name} has no values: attach a checkpoint to its network first`);
  const values = await parameter.source.read();
  const data = values instanceof Uint16Array ? decodeF16(values) : (values as Float32Array);
  const shape = targetShape(target);
  return { shape, data: data.subarray(part * sizeOf(shape), (part + 1) * sizeOf(shape)) };
}

/** A layer's change as a whole difference, in the shape of its weight or part. */
export function denseChange({ change }: LoraLayer): ArrayLike<number> {
  return change.kind === 'dense' ? change.delta.data : lowRankDelta(change.down, change.mid, change.up);
}
