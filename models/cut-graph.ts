/**
 * A graph of feature maps, cut into maps that are computed one after the other, each from maps before it, window by window. The graph is cut where a
 * window must know more than its surroundings: at the input of every group norm, whose moments are those of the whole map, and at attention's
 * operands and result; and where the caller says so, before windows need too much of their surroundings. From one cut to the next a window is computed with as much of its surroundings as its convolutions read.
 */
import { inputsOf, topological } from '../core/graph.ts';
import { isOp } from '../core/op.ts';
import { input, type OpTensor, type Tensor } from '../core/tensor.ts';
import { attentionOp } from '../kernels/attention.ts';
import { slice } from '../kernels/copy.ts';
import { groupNormOp } from '../kernels/group-norm.ts';
import { around, type Range } from './feature-map.ts';
import { type Axis, onWindow, readSpans, type Span } from './tile-rules.ts';

export interface Norm {
  /** Its number in the graph's order. */
  index: number;
  groups: number;
}

/** A map between two cuts. */
export interface CutMap {
  tensor: Tensor;
  /** The norms that read it. */
  norms: Norm[];
  /** Whether nothing but one norm reads it: such a map can be computed again where it is read. */
  passing: boolean;
}

/** Along one axis, what a range of a map needs of every tensor on the way from the maps that it is computed from. */
export interface Reach {
  range: Range;
  needed: Map<Tensor, Range>;
  reads: Map<Tensor, Record<string, Span>>;
  /** Equal for ranges that need the same computation. */
  key: string;
}

/** One window's graph, and the maps of which it reads windows, by input name. */
export interface WindowGraph {
  output: Tensor;
  reads: { name: string; map: number }[];
  /** Input names of the moments that it reads, and the norms' numbers. */
  moments: { name: string; norm: number }[];
}

export class CutGraph {
  /** In the order in which they are computed; inputs come first, and the last one is the result. */
  readonly maps: CutMap[];
  /** How many of the maps are inputs. */
  readonly inputs: number;
  private readonly order: Tensor[];
  private readonly place: Map<Tensor, number>;
  private readonly number: Map<Tensor, number>;

  /** `stops`: results at which the graph is cut, beside those that must be. */
  constructor(output: Tensor, stops: readonly Tensor[] = []) {
    this.order = topological([output]);
    this.place = new Map(this.order.map((tensor, i) => [tensor, i]));
    const cuts = new Set([output, ...stops]);
    const readers = new Map<Tensor, Tensor[]>(this.order.map((tensor) => [tensor, []]));
    for (const tensor of this.order) {
      for (const from of inputsOf(tensor)) readers.get(from)!.push(tensor);
      if (tensor.source.kind === 'input') cuts.add(tensor);
      if (isOp(tensor, groupNormOp)) cuts.add(tensor.source.inputs.x);
      if (isOp(tensor, attentionOp)) for (const map of [...inputsOf(tensor), tensor]) cuts.add(map);
    }
    const isInput = ({ source }: Tensor) => source.kind === 'input';
    const tensors = this.order.filter((tensor) => cuts.has(tensor));
    this.maps = [...tensors.filter(isInput), ...tensors.filter((tensor) => !isInput(tensor))].map((tensor) => {
      const read = readers.get(tensor)!;
      const norms = read.flatMap((reader) =>
        isOp(reader, groupNormOp) ? [{ index: this.place.get(reader)!, groups: reader.source.attrs.groups }] : [],
      );
      return { tensor, norms, passing: read.length === 1 && norms.length === 1 && !isInput(tensor) && !isOp(tensor, attentionOp) };
    });
    this.inputs = tensors.filter(isInput).length;
    this.number = new Map(this.maps.map(({ tensor }, i) => [tensor, i]));
  }

  /** The maps that map `target` is computed from, and the tensors on the way. Those of `again` are not kept, and lie on the way too. */
  sources(target: number, again: ReadonlySet<number>): { maps: Set<number>; inner: Set<Tensor> } {
    const found = { maps: new Set<number>(), inner: new Set<Tensor>() };
    const visit = (tensor: Tensor) => {
      const map = this.number.get(tensor);
      if (map !== undefined && map !== target && !again.has(map)) found.maps.add(map);
      else if (tensor.source.kind === 'op' && !found.inner.has(tensor)) {
        found.inner.add(tensor);
        for (const from of inputsOf(tensor)) visit(from);
      }
    };
    visit(this.maps[target].tensor);
    return found;
  }

  /** What `range` of map `target` along `axis` needs, computed from its sources. Throws ShapeError where an operation cannot be divided. */
  reach(target: number, inner: ReadonlySet<Tensor>, axis: Axis, range: Range): Reach {
    const { tensor: end } = this.maps[target];
    const reach: Reach = { range, needed: new Map([[end, range]]), reads: new Map(), key: '' };
    const steps = [...inner].sort((a, b) => this.place.get(b)! - this.place.get(a)!) as OpTensor<unknown>[];
    for (const tensor of steps) {
      const own = reach.needed.get(tensor);
      if (!own) continue;
      const reads = readSpans(tensor, axis, own);
      reach.reads.set(tensor, reads);
      for (const [name, read] of Object.entries(reads)) {
        const from = tensor.source.inputs[name]!;
        reach.needed.set(from, around(reach.needed.get(from), read));
      }
    }
    const parts: (string | number)[] = [];
    for (const [tensor, reads] of reach.reads) {
      const own = reach.needed.get(tensor)!;
      parts.push(own.end - own.start, ':');
      for (const [name, read] of Object.entries(reads)) {
        const has = reach.needed.get((tensor as OpTensor<unknown>).source.inputs[name]!)!;
        parts.push(read.before, read.after, read.shift, read.start - has.start, read.end - has.start, has.end - has.start);
      }
    }
    reach.key = parts.join(' ');
    return reach;
  }

  /** The graph of the window of map `target` that two reaches describe, down and across. */
  window(target: number, inner: ReadonlySet<Tensor>, rows: Reach, columns: Reach): WindowGraph {
    const built = new Map<Tensor, Tensor>();
    const graph: WindowGraph = { output: this.maps[target].tensor, reads: [], moments: [] };
    const end = this.place.get(graph.output)!;
    for (let i = 0; i <= end; i++) {
      const tensor = this.order[i];
      const [high, wide] = [rows.needed.get(tensor), columns.needed.get(tensor)];
      if (!high || !wide) continue;
      if (!inner.has(tensor)) {
        const name = `map ${i}`;
        graph.reads.push({ name, map: this.number.get(tensor)! });
        built.set(tensor, input(name, [tensor.shape[0], high.end - high.start, wide.end - wide.start, tensor.shape[3]]));
        continue;
      }
      const op = tensor as OpTensor<unknown>;
      const spans = [rows, columns].map((reach) => ({ range: reach.needed.get(op)!, reads: reach.reads.get(op)! }));
      const [down, across] = spans;
      const windowOf = (from: Tensor, name: string) =>
        part(part(built.get(from)!, 1, rows.needed.get(from)!, down.reads[name]), 2, columns.needed.get(from)!, across.reads[name]);
      const moments = () => {
        const name = `moments ${i}`;
        graph.moments.push({ name, norm: i });
        return input(name, [op.shape[0], isOp(op, groupNormOp) ? op.source.attrs.groups : 1, 2]);
      };
      built.set(op, onWindow(op, { down, across }, windowOf, moments));
    }
    graph.output = built.get(graph.output)!;
    return graph;
  }
}

/** The range `wanted` of x along an axis, of which x holds the range `has`. */
function part(x: Tensor, axis: Axis, has: Range, wanted: Range): Tensor {
  const same = wanted.start === has.start && wanted.end === has.end;
  return same ? x : slice(x, axis, wanted.start - has.start, wanted.end - has.start);
}
