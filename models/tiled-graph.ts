/**
 * Runs graphs of feature maps in tiles, with the results of the whole graphs but memory for a tile and for what maps the plan keeps on the GPU
 * (tile-plan.ts). Between programs maps stay there, and so do the moments of norms: nothing comes back to the host but the results, and maps for
 * which the GPU has no room.
 */
import { type Shape, sizeOf } from '../core/shape.ts';
import type { Device } from '../gpu/device.ts';
import { Held } from '../gpu/held.ts';
import { compile, type Program, type RunInputs, type Transfer } from '../gpu/program.ts';
import { emptyState } from '../kernels/attention-parts.ts';
import type { Norm } from './cut-graph.ts';
import { FeatureMap, type MapWindow, sameWindow, windowShape } from './feature-map.ts';
import {
  type GraphKind,
  type PartsForm,
  type PlannedMap,
  type PlannedProgram,
  planTiles,
  type TileForm,
  type TilePlan,
  type TilingOptions,
} from './tile-plan.ts';

/** Means and variances (N, groups, 2) of group norms, by the norm's number in the graph's order. */
export type NormMoments = Map<number, Float32Array>;

export interface TiledGraph {
  /** The result; its graph reads one input tensor, beside weights. Graphs of one shape best share it. */
  output: GraphKind['output'];
  stops?: GraphKind['stops'];
  input: FeatureMap;
}

export interface TiledOptions extends Omit<TilingOptions, 'known'> {
  /** Moments that are known already; the others are gathered, and several graphs share the mean of theirs, weighted by pixels. */
  moments?: NormMoments;
  /** Whether to give the moments back. */
  readMoments?: boolean;
  signal?: AbortSignal;
  /** Called after every tile, and awaited. The GPU may be a little behind. */
  onTile?: (done: number, of: number) => void | Promise<void>;
}

/**
 * Runs the graphs. -> their results, and the moments that their norms used if they are asked for.
 * Throws ShapeError when an operation cannot be tiled, DeviceError when the GPU fails, the signal's reason when aborted.
 */
export async function runTiled(
  device: Device,
  graphs: TiledGraph[],
  options: TiledOptions,
): Promise<{ results: FeatureMap[]; moments: NormMoments }> {
  const run = new TiledRun(device, graphs, options);
  try {
    return await run.results();
  } finally {
    run.release();
  }
}

type Outputs = Program<string>;

class TiledRun {
  private readonly device: Device;
  private readonly options: TiledOptions;
  private readonly plan: TilePlan;
  /** For each kind, its graphs' maps by number. */
  private readonly graphs: { kind: number; maps: (Held | FeatureMap | null)[] }[];
  private readonly moments = new Map<number, Held>();
  private readonly held = new Set<Held>();
  private readonly lingering: Lingering;
  private done = 0;

  constructor(device: Device, graphs: TiledGraph[], options: TiledOptions) {
    this.device = device;
    this.options = options;
    const outputs = [...new Set(graphs.map(({ output }) => output))];
    const kinds = outputs.map((output) => {
      const same = graphs.filter((graph) => graph.output === output);
      return { output, stops: same[0].stops, count: same.length };
    });
    const known = new Set(options.moments?.keys());
    this.plan = planTiles(kinds, { ...options, known }, device.facts, device.gpu.limits);
    this.graphs = graphs.map(({ output, input }) => ({ kind: outputs.indexOf(output), maps: [input] }));
    this.lingering = new Lingering(device, options.budget);
  }

  release(): void {
    for (const held of this.held) held.release();
    this.held.clear();
  }

  async results(): Promise<{ results: FeatureMap[]; moments: NormMoments }> {
    const { device, options, plan } = this;
    // The first program makes room for what is on the GPU from the beginning.
    let before = [...(options.moments ?? [])].map(([index, values]) => () => {
      const held = this.hold(`moments ${index}`, values.byteLength);
      held.write(0, values);
      this.moments.set(index, held);
    });
    if (plan.places[0] === 'gpu')
      before.push(() => {
        for (const { maps } of this.graphs) {
          const input = maps[0] as FeatureMap;
          const held = this.hold('input', 4 * sizeOf(input.shape));
          input.each((values, at) => held.write(4 * at, values));
          maps[0] = held;
        }
      });
    for (const map of plan.maps) {
      await this.compute(map, before);
      before = [];
    }
    const output = plan.places.length - 1;
    const results: FeatureMap[] = [];
    for (const { kind, maps } of this.graphs) {
      const result = maps[output]!;
      results.push(result instanceof Held ? await this.readBack(result, plan.graphs[kind].maps[output].tensor.shape) : result);
      if (result instanceof Held) this.free(result);
    }
    const moments: NormMoments = new Map();
    if (options.readMoments)
      for (const [index, held] of this.moments) {
        moments.set(index, new Float32Array(held.bytes / 4));
        await held.read(0, moments.get(index)!);
      }
    device.check();
    return { results, moments };
  }

  private async readBack(held: Held, shape: Shape): Promise<FeatureMap> {
    const data = new Float32Array(sizeOf(shape));
    const piece = Math.max(1, Math.floor(this.options.tileBytes / 4));
    for (let at = 0; at < data.length; at += piece) await held.read(4 * at, data.subarray(at, Math.min(at + piece, data.length)));
    return new FeatureMap(shape, data);
  }

  /** A map on the host; the result is dense there. */
  private onHost(map: number, shape: Shape): FeatureMap {
    return map === this.plan.places.length - 1 ? new FeatureMap(shape, new Float32Array(sizeOf(shape))) : new FeatureMap(shape);
  }

  private hold(label: string, bytes: number): Held {
    const held = new Held(this.device, label, bytes);
    this.held.add(held);
    return held;
  }

  private free(held: Held): void {
    held.release();
    this.held.delete(held);
  }

  /** Computes a map of all graphs, and the moments of the norms that read it. `before`: what else is to be put on the GPU. */
  private async compute(planned: PlannedMap, before: (() => void)[]): Promise<void> {
    const { map, place, norms, kinds, joins, last } = planned;
    const shapeOf = (kind: number) => this.plan.graphs[kind].maps[map].tensor.shape;
    const sums = new Sums(
      planned,
      this.graphs.map(({ kind }) => kind),
      shapeOf(0)[0],
    );
    const prepare = [
      ...before,
      () => {
        for (const { kind, maps } of this.graphs)
          maps[map] =
            place === 'again'
              ? null
              : place === 'host'
                ? this.onHost(map, shapeOf(kind))
                : this.hold(`map ${map}`, 4 * sizeOf(shapeOf(kind)));
        for (const { index, groups } of norms) this.moments.set(index, this.hold(`moments ${index}`, 8 * groups * shapeOf(0)[0]));
        sums.place((bytes) => this.hold('moments of tiles', bytes), this.moments);
      },
    ];
    for (const [kind, { forms }] of kinds.entries()) {
      let tile = 0;
      for (const form of forms) {
        if ('steps' in form) await this.runParts(planned, kind, form, prepare, sums, tile);
        else await this.runForm(planned, kind, form, prepare, sums, tile);
        tile += form.rows.length * form.columns.length;
      }
    }
    for (const [kind, { merges }] of kinds.entries())
      for (const [index, merge] of merges)
        await this.withPrograms([merge], [], async ([program]) => {
          for (const [graph, each] of this.graphs.entries())
            if (each.kind === kind) await program.run({}, { from: sums.tiles(index, graph), to: sums.ofGraph(index, graph) });
        });
    for (const [index, join] of joins)
      await this.withPrograms([join], [], async ([program]) => {
        await program.run({}, { from: sums.graphs(index), to: sums.joined(index) });
      });
    let freed = 0;
    const free = (held: Held) => {
      freed += held.allocated;
      this.free(held);
    };
    for (const buffer of sums.release()) free(buffer);
    for (const each of last)
      for (const { maps } of this.graphs) {
        const done = maps[each];
        if (done instanceof Held) free(done);
        maps[each] = null;
      }
    await this.lingering.freed(freed);
  }

  /** Compiles programs, those of `prepare` being placed beside the first one ever, and disposes of them when `body` is done. */
  private async withPrograms(
    planned: PlannedProgram[],
    prepare: (() => void)[],
    body: (programs: Outputs[]) => Promise<void>,
  ): Promise<void> {
    const { device, options } = this;
    const programs: Outputs[] = [];
    const heldBytes = () => [...this.held].reduce((sum, held) => sum + held.allocated, 0);
    let others = 0;
    try {
      for (const { outputs, kept, beside, plan } of planned) {
        // What the plan wants beside the program and is not there yet.
        const missing = Math.max(0, beside - others - heldBytes());
        programs.push(await compile(device, outputs, options.signal, { kept, beside: missing }));
        others += plan.bytes.total;
        const steps = prepare.splice(0);
        if (steps.length > 0)
          await device.guard(`placing ${missing} bytes of feature maps`, () => {
            for (const step of steps) step();
          });
      }
      await body(programs);
    } finally {
      for (const program of programs) program.dispose();
    }
    await this.lingering.freed(others);
  }

  private async runForm(
    planned: PlannedMap,
    kind: number,
    form: TileForm,
    prepare: (() => void)[],
    sums: Sums,
    first: number,
  ): Promise<void> {
    const { program: own, rows, columns, reads, moments } = form;
    await this.withPrograms([own], prepare, async ([program]) => {
      const feed = new Feed();
      let known: Transfer[] = moments.flatMap(({ name, norm }) => this.moments.get(norm)!.all(name));
      for (const [graph, { kind: of, maps }] of this.graphs.entries()) {
        if (of !== kind) continue;
        let tile = first;
        for (const y of rows)
          for (const x of columns) {
            const shape = (from: number) => this.plan.graphs[kind].maps[from].tensor.shape;
            for (const { name, map, window } of reads) feed.read(name, graph, map, maps[map]!, shape(map), window(y, x));
            const { inputs, from } = feed.take();
            const results = await program.run(inputs, {
              from: [...known, ...from],
              to: this.into(planned, graph, kind, { rows: y, columns: x }, sums, tile),
            });
            known = [];
            if (planned.place === 'host') (maps[planned.map] as FeatureMap).write({ rows: y, columns: x }, results.tile);
            await this.tileDone();
            tile++;
          }
      }
    });
  }

  /** Where a tile and its moments go. */
  private into({ map, norms, place }: PlannedMap, graph: number, kind: number, window: MapWindow, sums: Sums, tile: number): Transfer[] {
    const target = this.graphs[graph].maps[map];
    const kept = place === 'gpu' ? windowTransfers('tile', target as Held, this.plan.graphs[kind].maps[map].tensor.shape, window) : [];
    return [...kept, ...norms.flatMap(({ index }) => sums.tile(index, graph, tile))];
  }

  /** Attention's tiles whose keys come in parts. */
  private async runParts(
    planned: PlannedMap,
    kind: number,
    form: PartsForm,
    prepare: (() => void)[],
    sums: Sums,
    first: number,
  ): Promise<void> {
    const { rows, columns, steps, finish, state: shape, heads, keys, maps: operands } = form;
    let [state, empty]: (Held | null)[] = [null, null];
    const queries = [...shape.slice(0, -1), shape[shape.length - 1] - 4 * heads];
    const place = () => {
      const values = emptyState(queries, heads);
      state = this.hold('state', values.byteLength);
      empty = this.hold('empty state', values.byteLength);
      empty.write(0, values);
    };
    const all = prepare.splice(0);
    await this.withPrograms([...steps.values(), finish], [...all, place], async (programs) => {
      const byShape = new Map([...steps.keys()].map((key, i) => [key, { program: programs[i], feed: new Feed() }]));
      for (const [graph, { kind: of, maps }] of this.graphs.entries()) {
        if (of !== kind) continue;
        const shapes = this.plan.graphs[kind].maps;
        let tile = first;
        for (const y of rows)
          for (const x of columns) {
            let before = empty!;
            for (const window of keys) {
              const { q, k, v } = operands;
              const { program, feed } = byShape.get(String(windowShape(shapes[k].tensor.shape, window)))!;
              feed.read('q', graph, q, maps[q]!, shapes[q].tensor.shape, { rows: y, columns: x });
              for (const [name, map] of [
                ['k', k],
                ['v', v],
              ] as const)
                feed.read(name, graph, map, maps[map]!, shapes[map].tensor.shape, window);
              const { inputs, from } = feed.take();
              await program.run(inputs, { from: [...from, ...before.all('state')], to: state!.all('state') });
              before = state!;
              this.options.signal?.throwIfAborted();
            }
            const window = { rows: y, columns: x };
            const last = programs[programs.length - 1];
            const results = await last.run({}, { from: before.all('state'), to: this.into(planned, graph, kind, window, sums, tile) });
            if (planned.place === 'host') (maps[planned.map] as FeatureMap).write(window, results.tile);
            await this.tileDone();
            tile++;
          }
      }
    });
    for (const held of [state, empty]) if (held) this.free(held);
  }

  private async tileDone(): Promise<void> {
    const { signal, onTile } = this.options;
    signal?.throwIfAborted();
    await onTile?.(++this.done, this.plan.tiles);
  }
}

/** What a program is given for its next run: windows of maps that changed since the last one. */
class Feed {
  private readonly given = new Map<string, { graph: number; map: number; window: MapWindow }>();
  private inputs: RunInputs = {};
  private from: Transfer[] = [];

  read(name: string, graph: number, map: number, source: Held | FeatureMap, shape: Shape, window: MapWindow): void {
    const before = this.given.get(name);
    if (before && before.graph === graph && before.map === map && sameWindow(before.window, window)) return;
    this.given.set(name, { graph, map, window });
    if (source instanceof Held) this.from.push(...windowTransfers(name, source, shape, window));
    else this.inputs[name] = source.read(window);
  }

  take(): { inputs: RunInputs; from: Transfer[] } {
    const taken = { inputs: this.inputs, from: this.from };
    [this.inputs, this.from] = [{}, []];
    return taken;
  }
}

/** Between a window of a map (N, H, W, C) and a program's dense input or result: whole rows at once where the window has all columns. */
function windowTransfers(name: string, held: Held, [n, h, w, c]: Shape, { rows, columns }: MapWindow): Transfer[] {
  const [high, wide] = [rows.end - rows.start, columns.end - columns.start];
  const [runs, length] = wide === w ? [1, high * w] : [high, wide];
  const transfers: Transfer[] = [];
  for (let image = 0, at = 0; image < n; image++)
    for (let run = 0; run < runs; run++, at += 4 * length * c)
      transfers.push(...held.transfers(name, at, 4 * c * ((image * h + rows.start + run) * w + columns.start), 4 * length * c));
  return transfers;
}

/** Where the moments of a map's tiles, and of each graph's map, lie until they are those of all. */
class Sums {
  private readonly planned: PlannedMap;
  private readonly kinds: number[];
  private readonly batch: number;
  /** Number of the first tile of each graph among those of all graphs that have several; null where it has one. */
  private readonly first: (number | null)[] = [];
  private readonly count: number;
  private ofTiles = new Map<number, Held>();
  private ofGraphs = new Map<number, Held>();
  private all = new Map<number, Held>();

  constructor(planned: PlannedMap, kinds: number[], batch: number) {
    this.planned = planned;
    this.kinds = kinds;
    this.batch = batch;
    let count = 0;
    for (const kind of kinds) {
      const tiles = planned.kinds[kind].pixels.length;
      this.first.push(tiles > 1 ? count : null);
      if (tiles > 1) count += tiles;
    }
    this.count = count;
  }

  private bytes(index: number): number {
    return 8 * this.batch * this.planned.norms.find((norm: Norm) => norm.index === index)!.groups;
  }

  /** Makes the buffers that are needed. */
  place(hold: (bytes: number) => Held, all: Map<number, Held>): void {
    for (const { index } of this.planned.norms) {
      this.all.set(index, all.get(index)!);
      if (this.count > 0) this.ofTiles.set(index, hold(this.count * this.bytes(index)));
      if (this.kinds.length > 1) this.ofGraphs.set(index, hold(this.kinds.length * this.bytes(index)));
    }
  }

  release(): Held[] {
    return [...this.ofTiles.values(), ...this.ofGraphs.values()];
  }

  /** Where a tile's go. */
  tile(index: number, graph: number, tile: number): Transfer[] {
    const first = this.first[graph];
    const bytes = this.bytes(index);
    if (first === null) return this.destination(index, graph, `moments ${index}`);
    return this.ofTiles.get(index)!.transfers(`moments ${index}`, 0, (first + tile) * bytes, bytes);
  }

  /** Those of all tiles of a graph. */
  tiles(index: number, graph: number): Transfer[] {
    const bytes = this.bytes(index);
    const tiles = this.planned.kinds[this.kinds[graph]].pixels.length;
    return this.ofTiles.get(index)!.transfers('parts', 0, this.first[graph]! * bytes, tiles * bytes);
  }

  /** Where a graph's go. */
  ofGraph(index: number, graph: number): Transfer[] {
    return this.destination(index, graph, 'moments');
  }

  /** Those of all graphs. */
  graphs(index: number): Transfer[] {
    return this.ofGraphs.get(index)!.transfers('parts', 0, 0, this.kinds.length * this.bytes(index));
  }

  joined(index: number): Transfer[] {
    return this.all.get(index)!.transfers('moments', 0, 0, this.bytes(index));
  }

  private destination(index: number, graph: number, name: string): Transfer[] {
    const bytes = this.bytes(index);
    const several = this.ofGraphs.get(index);
    return several ? several.transfers(name, 0, graph * bytes, bytes) : this.all.get(index)!.transfers(name, 0, 0, bytes);
  }
}

/** Bytes of buffers that may have been freed while the GPU still works on them: until it is done they take room beside what comes next. */
const MOST_LINGERING = 2 ** 28;

/** Counts what was freed, and waits for the GPU before it is too much. */
class Lingering {
  private readonly device: Device;
  private readonly most: number;
  private bytes = 0;

  constructor(device: Device, budget: number) {
    this.device = device;
    this.most = Math.min(MOST_LINGERING, budget / 4);
  }

  /** So many bytes of buffers were freed. A lost device is told by the next check. */
  async freed(bytes: number): Promise<void> {
    this.bytes += bytes;
    if (this.bytes <= this.most) return;
    const { device } = this;
    await device.settle(device.gpu.queue.onSubmittedWorkDone()).catch(() => undefined);
    this.bytes = 0;
  }
}
