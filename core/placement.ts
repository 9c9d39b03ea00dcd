/**
 * Where weights lie while programs run, decided before anything is allocated: all of a program's on the GPU, or, where they are too many, some of
 * them there and the others passing through two slabs that are filled in turns. Also which weights of earlier programs stay meanwhile.
 */

import type { PlannedDispatch } from './dispatch.ts';
import { UserError } from './errors.ts';
import type { Plan } from './plan.ts';
import type { Parameter } from './tensor.ts';

/** Weights up to this size, biases and norms, always stay: a pass would spend its time on thousands of small reads. */
const SMALL = 2 ** 16;
/** A slab's size where it may be chosen: what is read while the GPU computes. */
const SLAB = 2 ** 26;
const SLABS = 2;

/** Dispatches from `from` to before `to`, and where in a slab the weights lie that only pass through. */
export interface Segment {
  from: number;
  to: number;
  places: Map<Parameter, number>;
}

export interface Placement {
  /** Weights that stay on the GPU while the program lives. */
  resident: Set<Parameter>;
  /** In order; one segment without places where all are resident. */
  segments: Segment[];
  /** Bytes of each slab; none where all are resident. */
  slabs: number[];
  /** Bytes on the GPU: the resident ones' and the slabs'. */
  bytes: number;
  /** Bytes that every run reads; what runs once (`Plan.once`) reads others beside. */
  streamed: number;
  /** Bytes of them that a run reads which takes a result over (`Plan.reusing`). */
  streamedReusing: number;
}

/**
 * Places the weights of a plan in `room` bytes, those apart that `elsewhere` tells to have a place already. Where even the least does not fit, it is
 * the result, with more `bytes` than there is room.
 */
export function placeWeights(plan: Plan, room: number, alignment: number, elsewhere = (_: Parameter) => false): Placement {
  const needed = weightsOf(plan).filter((weight) => !elsewhere(weight));
  const total = sum(needed);
  if (total <= room)
    return { resident: new Set(needed), segments: wholePlan(plan), slabs: [], bytes: total, streamed: 0, streamedReusing: 0 };

  const outputs = [...plan.outputs.values()].flatMap(({ storage }) => (storage.kind === 'parameter' ? [storage.parameter] : []));
  const stays = (weight: Parameter) => weight.bytes <= SMALL || outputs.includes(weight);
  const resident = new Set(needed.filter(stays));
  const large = needed.filter((weight) => !stays(weight));
  const left = room - sum(resident);
  const aligned = (bytes: number) => Math.ceil(bytes / alignment) * alignment;
  const most = Math.max(
    0,
    ...plan.dispatches.map((_, i) =>
      sum(
        readBy(plan.dispatches[i]).filter((w) => large.includes(w)),
        aligned,
      ),
    ),
  );
  const slab = Math.max(most, aligned(Math.min(SLAB, Math.floor(left / 4 / alignment) * alignment)));

  // What room is left keeps first what runs read that take a result over, since the others read it too, and of the other large weights that every run
  // reads an even share, so that there is something to compute while the rest comes.
  const always = plan.dispatches.slice(plan.once);
  const often = new Set(always.flatMap(readBy));
  const reusing = new Set(always.filter((dispatch) => plan.reusing?.has(dispatch)).flatMap(readBy));
  const inTurn = large.filter((weight) => often.has(weight));
  let spare = Math.max(0, left - SLABS * slab);
  const first = inTurn.filter((weight) => reusing.has(weight));
  if (sum(first) <= spare) {
    for (const weight of first) resident.add(weight);
    spare -= sum(first);
  }
  const others = inTurn.filter((weight) => !resident.has(weight));
  const share = spare / sum(others);
  let saved = 0;
  for (const weight of others) {
    saved += share * weight.bytes;
    if (saved < weight.bytes) continue;
    saved -= weight.bytes;
    resident.add(weight);
  }
  const streamed = new Set(large.filter((weight) => !resident.has(weight)));
  const readOften = inTurn.filter((weight) => streamed.has(weight));
  return {
    resident,
    segments: cut(plan, streamed, slab, aligned),
    slabs: new Array(SLABS).fill(slab),
    bytes: sum(resident) + SLABS * slab,
    streamed: sum(readOften),
    streamedReusing: sum(readOften.filter((weight) => reusing.has(weight))),
  };
}

/** Weights in the order in which dispatches first read them. */
function weightsOf(plan: Plan): Parameter[] {
  const weights = new Set<Parameter>();
  for (const dispatch of plan.dispatches) for (const weight of readBy(dispatch)) weights.add(weight);
  for (const storage of plan.fixed) if (storage.kind === 'parameter') weights.add(storage.parameter);
  return [...weights];
}

/** The weights that a dispatch reads. */
export function readBy({ operands }: PlannedDispatch): Parameter[] {
  return operands.flatMap((operand) => (operand.storage.kind === 'parameter' ? [operand.storage.parameter] : []));
}

function sum(weights: Iterable<Parameter>, rounded = (bytes: number) => bytes): number {
  let bytes = 0;
  for (const weight of weights) bytes += rounded(weight.bytes);
  return bytes;
}

const empty = (from: number, to = from): Segment => ({ from, to, places: new Map() });

/** What runs once, if anything does, and the rest. */
const wholePlan = ({ dispatches, once }: Plan): Segment[] => [...(once > 0 ? [empty(0, once)] : []), empty(once, dispatches.length)];

/** Segments as long as a slab holds their weights, none with both what runs once and what runs always. */
function cut(plan: Plan, streamed: Set<Parameter>, slab: number, aligned: (bytes: number) => number): Segment[] {
  const segments = [empty(0)];
  let used = 0;
  plan.dispatches.forEach((dispatch, i) => {
    const needed = readBy(dispatch);
    let last = segments[segments.length - 1];
    const fresh = [...new Set(needed)].filter((weight) => streamed.has(weight) && !last.places.has(weight));
    if (used + sum(fresh, aligned) > slab || (i > 0 && i === plan.once)) {
      segments.push((last = empty(i)));
      used = 0;
    }
    for (const weight of needed) {
      if (!streamed.has(weight) || last.places.has(weight)) continue;
      last.places.set(weight, used);
      used += aligned(weight.bytes);
    }
    last.to = i + 1;
  });
  return segments;
}

/** A plan that was admitted to a ledger. */
export interface Admission {
  plan: Plan;
  placement: Placement;
  /** Weights that have to leave before. */
  leaving: Parameter[];
}

/** The weights that programs left on the GPU or use there, under one budget. It allocates nothing: a forecast keeps one as a device does. */
export class WeightLedger {
  /** Bytes of buffers that there may be at once, weights and all others. */
  budget = Number.POSITIVE_INFINITY;
  /** Programs that use each weight, in order of last use. */
  private readonly users = new Map<Parameter, number>();

  /** Bytes of all weights in the ledger. */
  get bytes(): number {
    return sum(this.users.keys());
  }

  /** Bytes of the weights that nobody uses: they leave when their room is needed. */
  get idle(): number {
    return sum([...this.users].flatMap(([weight, users]) => (users > 0 ? [] : [weight])));
  }

  has(weight: Parameter): boolean {
    return this.users.has(weight);
  }

  /**
   * Takes in a program, beside `others` bytes of buffers that are not in the ledger. -> where its weights lie, and which idle ones have to leave,
   * those used longest ago first; and the plan itself, without hoisting where only that fits. Throws UserError with the numbers when it does not fit.
   */
  admit(plan: Plan, others: number, alignment: number, elsewhere?: (weight: Parameter) => boolean): Admission {
    const own = new Set(weightsOf(plan));
    const busy = sum([...this.users].flatMap(([weight, users]) => (users > 0 && !own.has(weight) ? [weight] : [])));
    const room = this.budget - others - busy - plan.bytes.total;
    const placement = placeWeights(plan, room, alignment, elsewhere);
    if (placement.bytes > room && plan.once > 0) return this.admit(plan.unhoisted(), others, alignment, elsewhere);
    if (placement.bytes > room) throw tooSmall(this.budget, placement.bytes, plan.bytes.total, others + busy);
    for (const weight of placement.resident) {
      const users = this.users.get(weight) ?? 0;
      this.users.delete(weight);
      this.users.set(weight, users + 1);
    }
    let excess = others + plan.bytes.total + this.bytes + placement.slabs.reduce((all, slab) => all + slab, 0) - this.budget;
    const leaving: Parameter[] = [];
    for (const [weight, users] of this.users) {
      if (excess <= 0) break;
      if (users > 0) continue;
      leaving.push(weight);
      excess -= weight.bytes;
    }
    for (const weight of leaving) this.users.delete(weight);
    return { plan, placement, leaving };
  }

  /** A program is gone; its weights stay until the room is needed. */
  leave({ resident }: Placement): void {
    for (const weight of resident) if (this.users.has(weight)) this.users.set(weight, this.users.get(weight)! - 1);
  }

  /** A weight is gone. */
  drop(weight: Parameter): void {
    this.users.delete(weight);
  }
}

function tooSmall(budget: number, weights: number, program: number, others: number): UserError {
  const mb = (bytes: number) => (bytes > 0 && bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${Math.ceil(bytes / 1e6)} MB`);
  return new UserError(
    `${mb(budget)} of GPU memory are allowed, and this needs ${mb(weights + program + others)} at least: ${mb(program)} for activations, ${mb(weights)} for the weights in use at a time, ${mb(others)} for what else is there meanwhile. Allow more, or use smaller tiles.`,
    { code: 'memory-too-small', values: { allowed: budget, needed: weights + program + others } },
  );
}
