/**
 * Reads LoRA files of every current layout (lora-names.ts) into layers: for each adapted weight the thin matrices to multiply by, or, for
 * DoRA, LoHa and LoKr, the whole difference.
 */
import { UserError } from '../core/errors.ts';
import { firstNotFinite } from '../core/finite.ts';
import { decodeF16 } from '../core/half.ts';
import type { Parameter } from '../core/module.ts';
import { type Shape, showShape, sizeOf } from '../core/tensor.ts';
import { listed, shown } from '../core/text.ts';
import { ADAPTER_CONFIG, ADAPTER_METADATA, LoraAlphas } from './lora-alpha.ts';
import { factor, hadamard, kronecker, lowRankDelta, type Matrix, magnitudeDelta } from './lora-delta.ts';
import { type LoraRole, type LoraTarget, loraTargets, OTHER_KINDS, PASSENGERS, parseLoraKey } from './lora-names.ts';
import type { TensorFile } from './tensor-file.ts';

/** What is needed of a file. */
export type LoraFile = Pick<TensorFile, 'name' | 'names' | 'info' | 'f32'> & Partial<Pick<TensorFile, 'metadata'>>;

/** Names listed in one message. */
const LISTED = 10;

const F32_LARGEST = (2 - 2 ** -23) * 2 ** 127;

/** The change of one weight (or part of one) at strength 1. */
export interface LoraLayer extends LoraTarget {
  /**
   * lowRank: x is multiplied by down (r, I) or (r, I, kh, kw), by mid (r, r, kh, kw) where there is one, and by up (O, r), into which
   * alpha / r is multiplied. dense: the weight's difference, in the shape of the weight or its part; its values may be computed at every access.
   */
  change: { kind: 'lowRank'; down: Matrix; mid: Matrix | null; up: Matrix } | { kind: 'dense'; delta: Matrix };
}

export interface Lora {
  /** The file's name. */
  name: string;
  layers: LoraLayer[];
  /** What was passed over, or taken for granted: a sentence each. */
  notes: string[];
}

type Tensors = Partial<Record<LoraRole, string>>;

/** A layer of a file: what it adapts, and its tensors by what they are to it. */
interface Group {
  /** As the file calls it. */
  layer: string;
  target: LoraTarget;
  tensors: Tensors;
}

export interface ReadLoraOptions {
  /** The contents of PEFT's adapter_config.json, where it lies beside the file. */
  config?: unknown;
}

/**
 * Reads a LoRA for the model with these weights, which must be named (and have values, for DoRA). Shapes are checked before any tensor is read or
 * multiplied. Throws UserError listing the tensors that match no weight, and naming those that are missing, that nothing reads, that have shapes
 * that do not fit, and that hold values which are not finite.
 */
export async function readLora(file: LoraFile, weights: Iterable<Parameter>, { config }: ReadLoraOptions = {}): Promise<Lora> {
  const { groups, notes } = groupsOf(file, weights);
  const alphas =
    config === undefined ? LoraAlphas.ofMetadata(file.metadata?.get(ADAPTER_METADATA), file.name) : LoraAlphas.of(config, ADAPTER_CONFIG);
  if (!alphas && groups.every(({ layer, tensors }) => layer.startsWith('base_model.model.') && tensors.alpha === undefined))
    notes.push(`${file.name} does not say its alpha, which PEFT keeps in ${ADAPTER_CONFIG} beside it: alpha = rank is taken.`);
  const layers: LoraLayer[] = [];
  for (const group of groups) layers.push({ ...group.target, change: await readLayer(file, group, alphas) });
  return { name: file.name, layers, notes };
}

/** The tensors by the weights that they change. */
function groupsOf(file: LoraFile, weights: Iterable<Parameter>): { groups: Group[]; notes: string[] } {
  const targets = loraTargets(weights);
  const groups = new Map<string, Group>();
  const unknown: string[] = [];
  const passed = new Map<string, string[]>();
  const other = new Map<string, string[]>();
  const note = (lists: Map<string, string[]>, what: string, key: string) => {
    const list = lists.get(what) ?? [];
    lists.set(what, list);
    list.push(key);
  };
  const names = file.names();
  for (const key of names) {
    const passenger = PASSENGERS.find(({ marks }) => marks.test(key));
    const kind = passenger ? undefined : OTHER_KINDS.find(({ marks }) => marks.test(key));
    const parsed = parseLoraKey(key);
    const target = parsed && targets.get(parsed.layer);
    if (passenger) note(passed, passenger.what, key);
    else if (kind) note(other, kind.kind, key);
    else if (!target) unknown.push(key);
    else {
      const id = `${target.part} ${target.parameter.name}`;
      const group = groups.get(id) ?? { layer: parsed.layer, target, tensors: {} };
      groups.set(id, group);
      const before = group.tensors[parsed.role];
      if (before !== undefined)
        throw new UserError(
          `${file.name}: ${shown(before)} and ${shown(key)} are both the ${parsed.role} of ${target.parameter.name}, so it is not certain which is meant. A file of several adapters must be saved as one for each.`,
        );
      group.tensors[parsed.role] = key;
    }
  }
  for (const [kind, keys] of other)
    throw new UserError(
      `${file.name}: ${keys.length} of ${names.length} tensors are ${kind}, which are not supported: ${listed(keys, LISTED)}. LoRA, LoHa, LoKr and DoRA are.`,
    );
  if (unknown.length > 0)
    throw new UserError(
      `${file.name}: ${unknown.length} of ${names.length} tensors belong to no layer of this model: ${listed(unknown, LISTED)}. The LoRA was made for another architecture, or is no LoRA.`,
    );
  if (groups.size === 0) throw new UserError(`${file.name} holds no tensors. Give a LoRA file.`);
  const notes = [...passed].map(
    ([what, keys]) => `${file.name}: ${keys.length} of ${names.length} tensors were passed over: ${what} (${listed(keys, 3)}).`,
  );
  return { groups: [...groups.values()], notes };
}

/** The roles of each kind of change; those that every kind may have are COMMON. */
const KINDS = {
  LoRA: ['down', 'up', 'mid'],
  LoHa: ['hada_w1_a', 'hada_w1_b', 'hada_t1', 'hada_w2_a', 'hada_w2_b', 'hada_t2'],
  LoKr: ['lokr_w1', 'lokr_w1_a', 'lokr_w1_b', 'lokr_w2', 'lokr_w2_a', 'lokr_w2_b', 'lokr_t2'],
} as const satisfies Record<string, readonly LoraRole[]>;
const COMMON: readonly LoraRole[] = ['alpha', 'magnitude', 'magnitudeOfRows'];

function kindOf(tensors: Tensors): keyof typeof KINDS {
  const roles = Object.keys(tensors);
  if (roles.some((role) => role.startsWith('hada'))) return 'LoHa';
  return roles.some((role) => role.startsWith('lokr')) ? 'LoKr' : 'LoRA';
}

async function readLayer(file: LoraFile, { layer, target, tensors }: Group, alphas: LoraAlphas | null): Promise<LoraLayer['change']> {
  const fail = (why: string) =>
    new UserError(`${file.name}, layer ${shown(layer)}: ${why}. The file is damaged, or the LoRA was made for another architecture.`);
  const shape = targetShape(target);
  const [outs, ins, ...window] = shape;
  const taps = sizeOf(window);
  const kind = kindOf(tensors);
  const idle = (Object.keys(tensors) as LoraRole[]).find(
    (role) => !(KINDS[kind] as readonly LoraRole[]).includes(role) && !COMMON.includes(role),
  );
  if (idle) throw fail(`it has ${shown(tensors[idle])}, which ${kind} does not read`);

  /** The shape of a tensor, of two dimensions at least; nothing has been read. */
  const shapeOf = (role: LoraRole): Shape => {
    const key = tensors[role];
    if (key === undefined) throw fail(`it has ${listed(Object.values(tensors))}, but no ${role}`);
    const found = file.info(key).shape;
    if (found.length < 2 || found.length > 4 || found.includes(0)) throw fail(`${shown(key)} is ${showShape(found)}, which is no factor`);
    return found;
  };
  const read = async (role: LoraRole): Promise<Matrix> => ({
    data: await finite(file, tensors[role]!),
    shape: file.info(tensors[role]!).shape,
  });

  const rankOf = (a: Shape, b: Shape, t: Shape | null): number => {
    const inner = t ? [a[0], b[0]] : [sizeOf(a.slice(1)), b[0]];
    const fits = t ? t.length === 4 && a.length === 2 && inner[0] === t[0] && inner[1] === t[1] : inner[0] === inner[1];
    if (!fits) throw fail(`the ranks of ${[a, ...(t ? [t] : []), b].map(showShape).join(', ')} differ`);
    return b[0];
  };
  /** Rows, columns and taps of a (O, r) b (r, I...), or of t (r, r, kh, kw) with a (r, O) and b (r, I); `taps` where b does not tell them apart. */
  const made = (a: Shape, b: Shape, t: Shape | null, taps: number): number[] =>
    t ? [a[1], sizeOf(b.slice(1)), t[2] * t[3]] : [a[0], sizeOf(b.slice(1)) / taps, taps];
  const checkFit = (rows: number, columns: number, windowed: number) => {
    if (rows !== outs || columns !== ins || windowed !== taps)
      throw fail(
        `its factors make ${showShape([rows, columns, ...(windowed > 1 ? [windowed] : [])])}, and ${target.parameter.name} is ${showShape(shape)}`,
      );
  };

  const values = tensors.alpha === undefined ? 1 : sizeOf(file.info(tensors.alpha).shape);
  if (values !== 1) throw fail(`${shown(tensors.alpha)} has ${values} values, and an alpha is one`);
  const alpha = tensors.alpha === undefined ? null : await finite(file, tensors.alpha);
  /** What D is multiplied by; two whole factors of LoKr have no rank, and alpha then means nothing. */
  const strengthOf = (rank: number | null): number => {
    if (alpha) return rank === null ? 1 : alpha[0] / rank;
    return alphas?.strength(layer, target.parameter.name, rank) ?? 1;
  };

  const magnitude = await readMagnitude();
  const dense = async (compute: () => Float64Array): Promise<LoraLayer['change']> => {
    const base = magnitude && (await baseOf(target));
    const values = () => {
      const delta = compute();
      const data = base ? magnitudeDelta(base, delta, magnitude.data, magnitude.byRow) : delta;
      if (!data.every((value) => Math.abs(value) <= F32_LARGEST)) throw fail('its factors multiply to values beyond f32');
      return data;
    };
    // Computed when needed: the factors of a whole model are small, their products are not.
    return {
      kind: 'dense',
      delta: {
        shape,
        get data() {
          return values();
        },
      },
    };
  };
  const scaled = (data: Float64Array, strength: number) => (strength === 1 ? data : data.map((value) => value * strength));

  if (kind === 'LoHa') {
    const side = async (n: 1 | 2) => {
      const t = tensors[`hada_t${n}`] === undefined ? null : shapeOf(`hada_t${n}`);
      const [a, b] = [shapeOf(`hada_w${n}_a`), shapeOf(`hada_w${n}_b`)];
      const rank = rankOf(a, b, t);
      const [rows, columns, windowed] = made(a, b, t, taps);
      checkFit(rows, columns, windowed);
      return { rank, read: async () => [await read(`hada_w${n}_a`), await read(`hada_w${n}_b`), t && (await read(`hada_t${n}`))] as const };
    };
    const [one, two] = [await side(1), await side(2)];
    const [first, second] = [await one.read(), await two.read()];
    const strength = strengthOf(one.rank);
    return dense(() => scaled(hadamard(factor(...first), factor(...second)), strength));
  }

  if (kind === 'LoKr') {
    const side = (n: 1 | 2) => {
      const [whole, a, b, t]: LoraRole[] = [`lokr_w${n}`, `lokr_w${n}_a`, `lokr_w${n}_b`, 'lokr_t2'];
      if (tensors[whole] !== undefined) {
        const factors = [a, b, ...(n === 2 ? [t] : [])].filter((role) => tensors[role] !== undefined);
        if (factors.length > 0) throw fail(`it has ${shown(tensors[whole])} and ${shown(tensors[factors[0]])}, of which one is too much`);
        const [rows, columns, ...rest] = shapeOf(whole);
        return { size: [rows, columns, sizeOf(rest)], rank: null, read: async () => (await read(whole)).data };
      }
      const apart = n === 2 && tensors[t] !== undefined ? shapeOf(t) : null;
      const [shapeA, shapeB] = [shapeOf(a), shapeOf(b)];
      const rank = rankOf(shapeA, shapeB, apart);
      // Without a window of its own, the second's b holds input channels and taps in one dimension.
      const size = made(shapeA, shapeB, apart, n === 2 ? taps : 1);
      if (!Number.isInteger(size[1])) throw fail(`${showShape(shapeB)} does not divide into windows of ${taps}`);
      return {
        size,
        rank,
        read: async () => {
          const [first, second, third] = [await read(a), await read(b), apart && (await read(t))];
          return () => factor(first, second, third);
        },
      };
    };
    const [one, two] = [side(1), side(2)];
    if (one.size[2] !== 1) throw fail(`its first factor is ${showShape(one.size)}, and has no window`);
    checkFit(one.size[0] * two.size[0], one.size[1] * two.size[1], two.size[2]);
    const [first, second] = [await one.read(), await two.read()];
    const matrix = (values: typeof first, size: number[]): Matrix => ({
      shape: size,
      data: typeof values === 'function' ? values() : values,
    });
    const strength = strengthOf(two.rank ?? one.rank);
    return dense(() => scaled(kronecker(matrix(first, one.size), matrix(second, two.size)), strength));
  }

  const [down, up, mid] = [shapeOf('down'), shapeOf('up'), tensors.mid === undefined ? null : shapeOf('mid')];
  const rank = up[1];
  const inner = mid && mid.length === 4 ? mid[1] : rank;
  if (down[0] !== inner || (mid && (mid.length !== 4 || mid[0] !== rank)))
    throw fail(`the ranks of ${showShape(down)}${mid ? `, ${showShape(mid)}` : ''} and ${showShape(up)} differ`);
  const downTaps = sizeOf(down.slice(2));
  const fits =
    up[0] === outs &&
    sizeOf(up) === outs * rank &&
    down[1] === ins &&
    (mid ? downTaps === 1 && mid[2] * mid[3] === taps : downTaps === taps);
  if (!fits) throw fail(`${showShape(down)} and ${showShape(up)} do not fit ${target.parameter.name}, ${showShape(shape)}`);
  const strength = strengthOf(rank);
  const scaledUp = scaled(Float64Array.from((await read('up')).data), strength);
  const rounded = Float32Array.from(scaledUp);
  if (firstNotFinite(rounded) >= 0) throw fail(`its factors times ${strength} go beyond f32`);
  const change = {
    down: fitted(await read('down'), mid ? [] : window),
    mid: mid && (await read('mid')),
    up: { data: rounded, shape: [outs, rank] },
  };
  if (!magnitude) return { kind: 'lowRank', ...change };
  return dense(() => lowRankDelta(change.down, change.mid, { data: scaledUp, shape: [outs, rank] }));

  /** DoRA's lengths, and whether they are of rows. */
  async function readMagnitude(): Promise<{ data: ArrayLike<number>; byRow: boolean } | null> {
    if (tensors.magnitude !== undefined && tensors.magnitudeOfRows !== undefined)
      throw fail(`it has ${shown(tensors.magnitude)} and ${shown(tensors.magnitudeOfRows)}, of which one is too much`);
    const key = tensors.magnitude ?? tensors.magnitudeOfRows;
    if (key === undefined) return null;
    const found = file.info(key).shape;
    const count = sizeOf(found);
    const byRow = count === outs && (tensors.magnitudeOfRows !== undefined || found[0] === outs);
    if (!byRow && !(tensors.magnitude !== undefined && count === ins && found[0] === 1 && found[1] === ins))
      throw fail(`DoRA's magnitude ${showShape(found)} fits neither rows nor columns of ${showShape(shape)}`);
    return { data: await finite(file, key), byRow };
  }
}

/** A tensor's values. Throws UserError with its element at the first NaN or infinity. */
async function finite(file: LoraFile, key: string): Promise<Float32Array> {
  const data = await file.f32(key);
  const at = firstNotFinite(data);
  if (at < 0) return data;
  throw new UserError(
    `${file.name}: element ${at} of tensor ${shown(key)} is ${Number.isNaN(data[at]) ? 'not a number' : 'infinite'}. The training that made it diverged, or the file is damaged: use an earlier state of it, or download it again.`,
  );
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
