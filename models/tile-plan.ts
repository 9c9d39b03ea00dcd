/**
 * How a graph of feature maps is computed in tiles, decided before anything is allocated: which maps stay on the GPU between programs, which on the
 * host, which are computed again where they are read; how each map is divided; the programs that compute it, and the memory beside them.
 *
 * Several graphs of one structure can run together and share their norms' moments; the published approximate tiling is that.
 */
import type { AdapterFacts } from '../core/adapter.ts';
import { isOp } from '../core/op.ts';
import type { Plan, PlanLimits } from '../core/plan.ts';
import { type Shape, sizeOf } from '../core/shape.ts';
import { constant, input, type Tensor } from '../core/tensor.ts';
import { heldBytes } from '../gpu/held.ts';
import { attention, attentionOp } from '../kernels/attention.ts';
import { attentionPart, attentionResult, mergeAttention, stateShape } from '../kernels/attention-parts.ts';
import { onMatmuls } from '../kernels/attention-wide.ts';
import { plan } from '../kernels/fusion.ts';
import { groupMoments } from '../kernels/group-moments.ts';
import { mergeMoments } from '../kernels/merge-moments.ts';
import { CutGraph, type Norm, type WindowGraph } from './cut-graph.ts';
import { type MapWindow, partition, type Range, wholeOf, windowShape } from './feature-map.ts';

/** Floating-point operations of a tile at most: seconds on slow adapters, whose drivers stop what takes longer. */
const MOST_WORK = 2 ** 38;
/** Queries of a tile of attention below which its keys are divided rather than its queries. */
const FEW_QUERIES = 4096;
/** A tile's largest map is at most this part of a binding: Winograd's convolution has up to four times as much beside it, tiles have borders. */
const PART_OF_BINDING = 5;

export interface TilingOptions {
  /** Bytes that one feature map of a tile may have, its surroundings apart. The GPU holds a few of these at a time. */
  tileBytes: number;
  /** Bytes of GPU memory that programs, their weights and the maps between them may have. */
  budget: number;
  /** Norms, by their number in the graph's order, whose moments are known. */
  known?: ReadonlySet<number>;
}

/** Graphs of one shape. */
export interface GraphKind {
  /** The result; its graph reads one input tensor, beside weights. */
  output: Tensor;
  /** Results at which the graph is cut, beside those that must be (cut-graph.ts). */
  stops?: readonly Tensor[];
  count: number;
}

/** Where a map is between the programs that make and read it; again: nowhere, it is computed again where it is read. */
export type MapPlace = 'gpu' | 'host' | 'again';

export interface PlannedProgram {
  outputs: Record<string, Tensor>;
  /** Outputs that do not come back to the host. */
  kept: string[];
  plan: Plan;
  runs: number;
  /** GPU memory in use beside it, weights apart. */
  beside: number;
}

/** Tiles that share a program: every one of `rows` with every one of `columns`. */
export interface TileForm {
  program: PlannedProgram;
  rows: Range[];
  columns: Range[];
  /** Inputs of the program that are windows of maps, for a tile. */
  reads: { name: string; map: number; window(rows: Range, columns: Range): MapWindow }[];
  moments: WindowGraph['moments'];
}

/** A form of attention whose keys come in parts: programs that exist at once. */
export interface PartsForm {
  /** The queries' windows. */
  rows: Range[];
  columns: Range[];
  /** For each shape of keys, takes some of them into the state; then the state becomes the result. */
  steps: Map<string, PlannedProgram>;
  finish: PlannedProgram;
  state: Shape;
  heads: number;
  /** The keys' windows. */
  keys: MapWindow[];
  maps: { q: number; k: number; v: number };
}

/** How the graphs of one kind compute a map. */
export interface MapOfKind {
  forms: (TileForm | PartsForm)[];
  /** Pixels of each tile, in the order in which forms list them. */
  pixels: number[];
  /** Makes one map's moments of its tiles', for each norm; absent where a map is one tile. */
  merges: Map<number, PlannedProgram>;
}

export interface PlannedMap {
  map: number;
  place: MapPlace;
  /** The norms whose moments are gathered. */
  norms: Norm[];
  kinds: MapOfKind[];
  /** Makes all graphs' moments of each one's; absent where there is one graph. */
  joins: Map<number, PlannedProgram>;
  /** Maps that nobody reads afterwards. */
  last: number[];
}

export interface TilePlan {
  graphs: CutGraph[];
  places: MapPlace[];
  maps: PlannedMap[];
  /** Every program in the order of its making. */
  programs: PlannedProgram[];
  /** GPU memory at most: programs with their weights, and maps. */
  gpuBytes: number;
  /** Host memory of feature maps at most. */
  hostBytes: number;
  /** Bytes of maps that travel to the GPU and back. */
  traffic: { up: number; down: number };
  tiles: number;
}

/** Plans the graphs of all kinds. Throws ShapeError when an operation cannot be divided. */
export function planTiles(kinds: GraphKind[], options: TilingOptions, facts: AdapterFacts, limits: PlanLimits): TilePlan {
  let reserve = 9 * options.tileBytes;
  for (let attempt = 0; ; attempt++) {
    const planned = new Planner(kinds, options, facts, limits, reserve).result();
    const excess = planned.gpuBytes - options.budget;
    // With no map on the GPU there is nothing more to give up; whether it fits all the same is for the ledger of weights to tell.
    if (excess <= 0 || attempt === 8 || !planned.places.includes('gpu')) return planned;
    reserve += excess + options.tileBytes / 4;
  }
}

class Planner {
  private readonly kinds: GraphKind[];
  private readonly graphs: CutGraph[];
  private readonly options: TilingOptions;
  private readonly facts: AdapterFacts;
  private readonly limits: PlanLimits;
  private readonly tileBytes: number;
  private readonly places: MapPlace[];
  private readonly programs: PlannedProgram[] = [];
  private readonly traffic = { up: 0, down: 0 };

  constructor(kinds: GraphKind[], options: TilingOptions, facts: AdapterFacts, limits: PlanLimits, reserve: number) {
    this.kinds = kinds;
    this.graphs = kinds.map(({ output, stops }) => new CutGraph(output, stops));
    this.options = options;
    this.facts = facts;
    this.limits = limits;
    this.tileBytes = Math.min(options.tileBytes, limits.maxStorageBufferBindingSize / PART_OF_BINDING);
    this.places = this.placesWithin(options.budget - reserve);
  }

  private get count(): number {
    return this.kinds.reduce((sum, { count }) => sum + count, 0);
  }

  /** The maps of all graphs of this number, on the GPU. */
  private mapBytes(map: number): number {
    return this.graphs.reduce((sum, { maps }, kind) => sum + this.kinds[kind].count * heldBytes(4 * maps[map].tensor.size), 0);
  }

  private again(places: readonly MapPlace[] = this.places): Set<number> {
    return new Set(places.flatMap((place, map) => (place === 'again' ? [map] : [])));
  }

  /** For every map, the step in which it is last read: maps are computed one a step, and the result is read after the last one. */
  private lastReads(places: readonly MapPlace[]): number[] {
    const [graph] = this.graphs;
    const again = this.again(places);
    const last = graph.maps.map((_, map) => map);
    for (let step = graph.inputs; step < graph.maps.length; step++) for (const map of graph.sources(step, again).maps) last[map] = step;
    last[last.length - 1] = graph.maps.length;
    return last;
  }

  private alive(places: readonly MapPlace[], last: readonly number[], step: number, place: MapPlace): number[] {
    const { inputs } = this.graphs[0];
    return places.flatMap((each, map) => (each === place && (map < inputs || map <= step) && last[map] >= step ? [map] : []));
  }

  /**
   * Where maps lie so that those on the GPU fit `room` bytes at every step. What does not fit is computed again if a norm alone reads it, which on a
   * GPU takes less time than a way through the host, else kept there: the largest first.
   */
  private placesWithin(room: number): MapPlace[] {
    const [{ maps, inputs }] = this.graphs;
    const places: MapPlace[] = maps.map(() => 'gpu');
    const canBeAnew = (map: number) =>
      maps[map].passing && [...this.graphs[0].sources(map, new Set()).maps].every((source) => places[source] !== 'again');
    for (const [map, { norms }] of maps.entries())
      if (norms.length > 0 && norms.every(({ index }) => this.options.known?.has(index)) && canBeAnew(map)) places[map] = 'again';
    for (;;) {
      const last = this.lastReads(places);
      let fullest = { bytes: 0, maps: [] as number[] };
      for (let step = inputs; step < maps.length; step++) {
        const alive = this.alive(places, last, step, 'gpu');
        const bytes = alive.reduce((sum, map) => sum + this.mapBytes(map), 0);
        if (bytes > fullest.bytes) fullest = { bytes, maps: alive };
      }
      // Where programs alone take more than there is, no map is left to give up.
      if (fullest.bytes <= Math.max(0, room)) return places;
      const largest = (among: number[]) => among.reduce((best, map) => (this.mapBytes(map) > this.mapBytes(best) ? map : best), among[0]);
      const passing = fullest.maps.filter(canBeAnew);
      if (passing.length > 0) places[largest(passing)] = 'again';
      else places[largest(fullest.maps)] = 'host';
    }
  }

  result(): TilePlan {
    const [graph] = this.graphs;
    const { places } = this;
    const last = this.lastReads(places);
    const output = graph.maps.length - 1;
    const maps: PlannedMap[] = [];
    let [hostBytes, moments] = [0, 0];
    const momentBytes = ({ groups }: Norm) => heldBytes(8 * groups * graph.maps[0].tensor.shape[0]);
    for (const { norms } of graph.maps) for (const norm of norms) if (this.options.known?.has(norm.index)) moments += momentBytes(norm);
    for (let map = graph.inputs; map <= output; map++) {
      const norms = graph.maps[map].norms.filter(({ index }) => !this.options.known?.has(index));
      if (places[map] === 'again' && norms.length === 0) continue;
      const onGpu = this.alive(places, last, map, 'gpu').reduce((sum, each) => sum + this.mapBytes(each), 0);
      for (const norm of norms) moments += momentBytes(norm);
      maps.push(this.planMap(map, norms, onGpu + moments, last));
      const onHost = this.alive(places, last, map, 'host').filter((each) => each >= graph.inputs && each !== output);
      const ends = [...Array.from({ length: graph.inputs }, (_, i) => i), output];
      hostBytes = Math.max(
        hostBytes,
        [...onHost, ...ends].reduce((sum, each) => sum + this.hostBytes(each), 0),
      );
    }
    for (const map of [...Array.from({ length: graph.inputs }, (_, i) => i)])
      if (places[map] === 'gpu') this.traffic.up += this.hostBytes(map);
    if (places[output] === 'gpu') this.traffic.down += this.hostBytes(output);
    return {
      graphs: this.graphs,
      places,
      maps,
      programs: this.programs,
      gpuBytes: Math.max(...this.programs.map(({ plan: { bytes }, beside }) => beside + bytes.total + bytes.weights)),
      hostBytes,
      traffic: this.traffic,
      tiles: maps.reduce(
        (sum, { kinds }) => sum + kinds.reduce((tiles, { pixels }, i) => tiles + pixels.length * this.kinds[i].count, 0),
        0,
      ),
    };
  }

  private hostBytes(map: number): number {
    return this.graphs.reduce((sum, { maps }, kind) => sum + this.kinds[kind].count * 4 * maps[map].tensor.size, 0);
  }

  /** `held`: bytes of maps and moments on the GPU at this step. */
  private planMap(map: number, norms: Norm[], held: number, last: readonly number[]): PlannedMap {
    const isAttention = isOp(this.graphs[0].maps[map].tensor, attentionOp);
    // How maps are divided comes first: the room for their tiles' moments is a part of what lies beside the programs.
    const divided = this.graphs.map((graph) => (isAttention ? this.divideAttention(graph, map) : this.divideWindows(graph, map)));
    const tiles = divided.map(({ rows, columns }) => rows.length * columns.length);
    const batch = this.graphs[0].maps[map].tensor.shape[0];
    const beside = held + norms.reduce((sum, { groups }) => sum + this.partBytes(tiles, 8 * groups * batch), 0);
    const kinds = divided.map((division, kind): MapOfKind => {
      const forms = division.forms(kind, norms, beside);
      const pixels = forms.flatMap(({ rows, columns }) => rows.flatMap((y) => columns.map((x) => (y.end - y.start) * (x.end - x.start))));
      return { forms, pixels, merges: new Map() };
    });
    for (const [kind, { pixels, merges }] of kinds.entries()) {
      if (pixels.length === 1) continue;
      for (const { index, groups } of norms)
        merges.set(index, this.mergeProgram(batch, groups, pixels, true, this.kinds[kind].count, beside));
    }
    const joins = new Map<number, PlannedProgram>();
    if (this.count > 1) {
      const pixels = this.graphs.flatMap(({ maps }, kind) => {
        const [, h, w] = maps[map].tensor.shape;
        return new Array<number>(this.kinds[kind].count).fill(h * w);
      });
      for (const { index, groups } of norms) joins.set(index, this.mergeProgram(batch, groups, pixels, false, 1, beside));
    }
    const done = this.places.flatMap((place, each) => (place !== 'again' && last[each] === map ? [each] : []));
    return { map, place: this.places[map], norms, kinds, joins, last: done };
  }

  /** Bytes of the buffers that take tiles' moments, and of those that take each graph's, where there are several; `one`: bytes of one. */
  private partBytes(tiles: number[], one: number): number {
    const parts = tiles.reduce((sum, count, kind) => sum + (count > 1 ? count * this.kinds[kind].count : 0), 0);
    return (parts > 0 ? heldBytes(parts * one) : 0) + (this.count > 1 ? heldBytes(this.count * one) : 0);
  }

  private mergeProgram(batch: number, groups: number, pixels: number[], between: boolean, runs: number, beside: number): PlannedProgram {
    const parts = input('parts', [pixels.length, batch, groups, 2]);
    const moments = mergeMoments(parts, constant(Float32Array.from(pixels), [pixels.length]), { between });
    return this.program({ moments }, ['moments'], runs, beside);
  }

  private program(outputs: Record<string, Tensor>, kept: string[], runs: number, beside: number): PlannedProgram {
    const program = { outputs, kept, plan: plan(outputs, this.facts, this.limits, { kept }), runs, beside };
    this.programs.push(program);
    return program;
  }

  /** The names of a tile's outputs, and which of them stay on the GPU. */
  private tileOutputs(map: number, tile: Tensor, norms: Norm[]): [Record<string, Tensor>, string[]] {
    const moments = norms.map(({ index, groups }) => [`moments ${index}`, groupMoments(tile, groups)] as const);
    const place = this.places[map];
    const kept = [...(place === 'gpu' ? ['tile'] : []), ...moments.map(([name]) => name)];
    return [{ ...(place !== 'again' && { tile }), ...Object.fromEntries(moments) }, kept];
  }

  private divideWindows(graph: CutGraph, map: number): Division {
    const { tensor } = graph.maps[map];
    const { maps, inner } = graph.sources(map, this.again());
    const [, h, w] = tensor.shape;
    const { rows, columns } = partition(
      h,
      w,
      this.pixelsOfTile(tensor, [...maps].map((each) => graph.maps[each].tensor).concat(...inner), inner),
    );
    const forms = (kind: number, norms: Norm[], beside: number): TileForm[] => {
      const [down, across] = [
        byKey(rows, (range) => graph.reach(map, inner, 1, range)),
        byKey(columns, (range) => graph.reach(map, inner, 2, range)),
      ];
      return down.flatMap((y) =>
        across.map((x) => {
          const window = graph.window(map, inner, y[0], x[0]);
          const runs = y.length * x.length * this.kinds[kind].count;
          const program = this.program(...this.tileOutputs(map, window.output, norms), runs, beside);
          const rowsOf = new Map(y.map((reach) => [reach.range, reach]));
          const columnsOf = new Map(x.map((reach) => [reach.range, reach]));
          const reads = window.reads.map(({ name, map: from }) => {
            const source = graph.maps[from].tensor;
            const read = (rows: Range, columns: Range) => ({
              rows: rowsOf.get(rows)!.needed.get(source)!,
              columns: columnsOf.get(columns)!.needed.get(source)!,
            });
            if (this.places[from] === 'host') this.traffic.up += 4 * runs * sizeOf(windowShape(source.shape, read(y[0].range, x[0].range)));
            return { name, map: from, window: read };
          });
          this.countResult(map, program, runs);
          return { program, rows: y.map(({ range }) => range), columns: x.map(({ range }) => range), reads, moments: window.moments };
        }),
      );
    };
    return { rows, columns, forms };
  }

  private countResult(map: number, { plan: { bytes } }: PlannedProgram, runs: number): void {
    if (this.places[map] === 'host') this.traffic.down += runs * bytes.results;
  }

  /**
   * Pixels that a tile of the target may have: its largest map has at most `tileBytes`, its work is at most MOST_WORK.
   */
  private pixelsOfTile(target: Tensor, maps: Tensor[], inner: ReadonlySet<Tensor>): number {
    let work = 0;
    for (const { source, shape } of inner) if (source.kind === 'op') work += source.op.flops?.(source.inputs, { shape }, source.attrs) ?? 0;
    const largest = Math.max(...maps.map(({ size }) => 4 * size));
    return target.shape[1] * target.shape[2] * Math.min(this.tileBytes / largest, MOST_WORK / Math.max(work, 1));
  }

  /** Attention: queries in tiles, and all keys at once where they are few, else in parts. */
  private divideAttention(graph: CutGraph, map: number): Division {
    const { tensor } = graph.maps[map];
    if (!isOp(tensor, attentionOp)) throw new Error('no attention');
    const { inputs } = tensor.source;
    const [q, k, v] = [inputs.q, inputs.k, inputs.v].map((operand) => graph.maps.findIndex((each) => each.tensor === operand));
    const { heads } = tensor.source.attrs;
    const [n, h, w, channels] = tensor.shape;
    const [, keysHigh, keysWide] = graph.maps[k].tensor.shape;
    const pixel = 4 * n * channels;
    const keys = keysHigh * keysWide;
    const workOf = 4 * n * channels;
    // On products of matrices all keys of a query are at hand at once.
    const stored = onMatmuls(this.facts, heads, channels / heads) && keys * pixel <= this.limits.maxStorageBufferBindingSize;
    const inTime = MOST_WORK / (workOf * keys);
    const whole = stored || (keys * pixel <= 2 * this.tileBytes && inTime >= Math.min(FEW_QUERIES, h * w));
    const most = Math.min(this.tileBytes / pixel, ...(whole ? [inTime] : []));
    const { rows, columns } = partition(h, w, most);
    const queries = (rows[0].end - rows[0].start) * (columns[0].end - columns[0].start);
    const parts = whole
      ? [wholeOf(graph.maps[k].tensor.shape)]
      : windowsOf(partition(keysHigh, keysWide, Math.min(this.tileBytes / pixel, MOST_WORK / (workOf * queries))));
    const size = (window: MapWindow) => [n, window.rows.end - window.rows.start, window.columns.end - window.columns.start, channels];
    const forms = (kind: number, norms: Norm[], beside: number): (TileForm | PartsForm)[] =>
      byKey(rows, ofLength).flatMap((y) =>
        byKey(columns, ofLength).map((x) => {
          const [tileRows, tileColumns] = [y.map(({ range }) => range), x.map(({ range }) => range)];
          const shape = size({ rows: tileRows[0], columns: tileColumns[0] });
          const runs = y.length * x.length * this.kinds[kind].count;
          const query = input('q', shape);
          const keysAndValues = (window: MapWindow) => [input('k', size(window)), input('v', size(window))] as const;
          for (const [from, times, bytes] of [
            [q, runs, 4 * sizeOf(shape)],
            [k, runs, pixel * keys],
            [v, runs, pixel * keys],
          ])
            if (this.places[from] === 'host') this.traffic.up += times * bytes;
          if (parts.length === 1) {
            const result = attention(query, ...keysAndValues(parts[0]), heads);
            const program = this.program(...this.tileOutputs(map, result, norms), runs, beside);
            const reads = [
              { name: 'q', map: q, window: (rows: Range, columns: Range) => ({ rows, columns }) },
              ...[k, v].map((from, i) => ({ name: 'kv'[i], map: from, window: () => parts[0] })),
            ];
            this.countResult(map, program, runs);
            return { program, rows: tileRows, columns: tileColumns, reads, moments: [] };
          }
          const state = stateShape(shape, heads);
          // The running state and the empty one.
          let occupied = beside + 2 * heldBytes(4 * sizeOf(state));
          const add = (outputs: Record<string, Tensor>, kept: string[], times: number) => {
            const program = this.program(outputs, kept, times, occupied);
            occupied += program.plan.bytes.total;
            return program;
          };
          const steps = new Map<string, PlannedProgram>();
          for (const window of parts) {
            const key = String(size(window));
            const before = steps.get(key);
            if (before) before.runs += runs;
            else
              steps.set(
                key,
                add(
                  { state: mergeAttention(input('state', state), attentionPart(query, ...keysAndValues(window), heads), heads) },
                  ['state'],
                  runs,
                ),
              );
          }
          const finish = add(...this.tileOutputs(map, attentionResult(input('state', state), heads), norms), runs);
          this.countResult(map, finish, runs);
          return { rows: tileRows, columns: tileColumns, steps, finish, state, heads, keys: parts, maps: { q, k, v } };
        }),
      );
    return { rows, columns, forms };
  }
}

/** A map's rows and columns, divided, and what plans its tiles. */
interface Division {
  rows: Range[];
  columns: Range[];
  forms(kind: number, norms: Norm[], beside: number): (TileForm | PartsForm)[];
}

export function windowsOf({ rows, columns }: { rows: Range[]; columns: Range[] }): MapWindow[] {
  return rows.flatMap((y) => columns.map((x) => ({ rows: y, columns: x })));
}

const ofLength = (range: Range) => ({ range, key: String(range.end - range.start) });

/** Ranges with what is known of them, those of one key together. */
function byKey<Known extends { key: string }>(ranges: Range[], known: (range: Range) => Known): Known[][] {
  const groups = new Map<string, Known[]>();
  for (const range of ranges) {
    const each = known(range);
    const group = groups.get(each.key);
    if (group) group.push(each);
    else groups.set(each.key, [each]);
  }
  return [...groups.values()];
}
