/**
 * Reads the assembly that RADV's compiler prints (LLVM's syntax) and estimates how much of a loop's time is multiply-adds.
 *
 * The model, for one SIMD of 32 lanes (RDNA): an instruction on vectors takes lanes/32 cycles, four times as long where it is a
 * transcendental or an integer product; a pair issued together (VOPD) counts once. A matrix instruction (WMMA) multiplies 16 x 16 x 16 halves in 32
 * cycles, as AMD's 512 operations a cycle and compute unit say of RDNA 3; where there are any, only theirs are multiply-adds. Workgroup memory
 * moves 64 bytes a cycle and SIMD. The slower of the two bounds the loop. Global memory, bank conflicts and waiting are not in the model.
 */
export interface Instruction {
  op: string;
  /** Second half of a pair. */
  pair?: string;
  /** Where a branch leads. */
  target?: string;
}

/** What the instructions of a loop cost in one trip, those of loops inside it not counted. */
export interface Cost {
  multiplyAdds: number;
  /** Cycles of a wave on the vector units and in workgroup memory. */
  vector: number;
  shared: number;
}

export interface Loop {
  /** Its place in the listing, ends included. */
  from: number;
  to: number;
  own: Cost;
  inside: Loop[];
}

/** Multiply-adds of one lane by one instruction. */
function multiplyAdds(op: string): number {
  if (/^v_pk_(fma|fmac)_f(16|32)/.test(op) || /^v_dot2/.test(op)) return 2;
  return /^v_(dual_)?(fma|fmac|fmaak|fmamk|mad|mac|fma_mix\w*)_(legacy_)?f(32|16)/.test(op) ? 1 : 0;
}

/** Multiply-adds of a whole wave by one matrix instruction, and its cycles. */
const MATRIX = { multiplyAdds: 16 ** 3, cycles: 32 };

function cost(instructions: readonly Instruction[], lanes: number): Cost {
  const total: Cost = { multiplyAdds: 0, vector: 0, shared: 0 };
  const matrix = (op: string) => op.startsWith('v_wmma');
  const matrices = instructions.some(({ op }) => matrix(op));
  for (const { op, pair } of instructions) {
    if (matrix(op)) {
      total.multiplyAdds += MATRIX.multiplyAdds / lanes;
      total.vector += MATRIX.cycles;
    } else if (op.startsWith('v_')) {
      if (!matrices) total.multiplyAdds += multiplyAdds(op) + multiplyAdds(pair ?? '');
      total.vector += (lanes / 32) * (/^v_(exp|log|rcp|rsq|sqrt|sin|cos|mul_lo_u|mul_hi_u|mad_u64)/.test(op) ? 4 : 1);
    } else if (op.startsWith('ds_')) total.shared += (sharedBytes(op) * lanes) / 64;
  }
  return total;
}

function sharedBytes(op: string): number {
  const bits = Number(/_[bui](8|16|32|64|96|128)\b/.exec(op.replace(/_d16.*/, '_b16').replace(/_e(32|64)$/, ''))?.[1] ?? 32);
  return (bits / 8) * (/^ds_(load|store|read|write)_?2/.test(op) ? 2 : 1);
}

function parse(assembly: string): { instructions: Instruction[]; labels: Map<string, number> } {
  const instructions: Instruction[] = [];
  const labels = new Map<string, number>();
  for (const line of assembly.split('\n')) {
    const text = line.replace(/\s*;.*$/, '').trim();
    const label = /^(BB\d+):/.exec(text)?.[1];
    const repeated = /^\(then repeated (\d+) times\)/.exec(text)?.[1];
    if (label) labels.set(label, instructions.length);
    else if (repeated) for (let i = 0; i < Number(repeated); i++) instructions.push(instructions[instructions.length - 1]);
    else if (text) {
      const [first, second] = text.split(/\s*::\s*/);
      instructions.push({
        op: first.split(/\s/)[0],
        pair: second?.split(/\s/)[0],
        target: /^s_c?branch/.test(text) ? /BB\d+/.exec(text)?.[0] : undefined,
      });
    }
  }
  return { instructions, labels };
}

/** The outermost loops of a listing, in its order, with the loops inside them. */
export function loopsOf(assembly: string, lanes: number): Loop[] {
  const { instructions, labels } = parse(assembly);
  // A loop is what a backward branch spans; branches back to one place belong to one loop.
  const spans = new Map<number, number>();
  for (const [at, { target }] of instructions.entries()) {
    const head = target === undefined ? undefined : labels.get(target);
    if (head !== undefined && head <= at) spans.set(head, Math.max(at, spans.get(head) ?? 0));
  }
  const all = [...spans].map(([from, to]): Loop => ({ from, to, own: { multiplyAdds: 0, vector: 0, shared: 0 }, inside: [] }));
  all.sort((a, b) => a.from - b.from || b.to - a.to);
  const outermost: Loop[] = [];
  const open: Loop[] = [];
  for (const loop of all) {
    while (open.length > 0 && open[open.length - 1].to < loop.from) open.pop();
    (open[open.length - 1]?.inside ?? outermost).push(loop);
    open.push(loop);
  }
  for (const loop of all) {
    const own = instructions
      .slice(loop.from, loop.to + 1)
      .filter((_, i) => !loop.inside.some(({ from, to }) => loop.from + i >= from && loop.from + i <= to));
    loop.own = cost(own, lanes);
  }
  return outermost;
}

/** Share of the f32 issue peak: 1 where every cycle is a multiply-add of every lane. Packed and paired instructions can pass 1. */
export function share({ multiplyAdds, vector, shared }: Cost, lanes: number): number {
  return (multiplyAdds * (lanes / 32)) / Math.max(vector, shared);
}

/** Cost of one trip of a loop with the loops inside it, which make `trips` trips each, in the listing's order. */
export function wholeCost(loop: Loop, trips: number[]): Cost {
  const rest = [...trips];
  const of = ({ own, inside }: Loop): Cost => {
    const total = { ...own };
    for (const inner of inside) {
      const count = rest.shift();
      if (count === undefined) throw new Error(`The listing has more loops than the ${trips.length} that are known of.`);
      const one = of(inner);
      for (const key of ['multiplyAdds', 'vector', 'shared'] as const) total[key] += count * one[key];
    }
    return total;
  };
  const total = of(loop);
  if (rest.length > 0) throw new Error(`The listing has ${rest.length} loops fewer than the ${trips.length} that are known of.`);
  return total;
}
