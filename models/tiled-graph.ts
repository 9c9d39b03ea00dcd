/**
 * Runs a graph of feature maps in tiles, with the result of the whole graph but memory for a tile: feature maps live on the host, and only
 * windows of them go to the GPU. The graph is cut where a tile must know more than its surroundings: at the input of every group norm, whose
 * moments are gathered over all tiles (Chan, Golub & LeVeque 1983) before a tile of the next segment is computed, and at attention's q, k, v.
 * From one cut to the next a tile is computed with as much of its surroundings as its convolutions read.
 *
 * Several graphs of one structure can run together and share their norms' moments; the published approximate tiling is that.
 */
import type { AdapterFacts } from '../core/adapter.ts';
import { inputsOf, topological } from '../core/graph.ts';
import { isOp, type OpTensor } from '../core/op.ts';
import type { Plan, PlanLimits } from '../core/plan.ts';
import { input, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile } from '../gpu/program.ts';
import { attentionOp } from '../kernels/attention.ts';
import { slice } from '../kernels/copy.ts';
import { plan } from '../kernels/fusion.ts';
import { groupMoments } from '../kernels/group-moments.ts';
import { groupNormOp } from '../kernels/group-norm.ts';
import { around, FeatureMap, partition, sameWindow, type Window } from './feature-map.ts';
import { onWindow, readWindows } from './tile-rules.ts';

/** Floating-point operations of a tile at most: seconds on slow adapters, whose drivers stop what takes longer, as attention over a large map would. */
const MOST_WORK = 2 ** 38;

/** Means and variances (N, groups, 2) of group norms, by the norm's number in the graph's order. */
export type Moments = Map<number, Float32Array>;

export interface TiledGraph {
  /** The result; its graph reads one input tensor, beside weights. */
  output: Tensor;
  input: FeatureMap;
}

export interface TiledOptions {
  /** Bytes that one feature map of a tile may have, its surroundings apart. The GPU holds a few of these at a time. */
  tileBytes: number;
  /** Moments that are known already; the others are gathered. */
  moments?: Moments;
  /** How moments of several graphs become one, given each one's pixels; needed with more than one graph. */
  combine?: (moments: Float32Array[], pixels: number[]) => Float32Array;
  signal?: AbortSignal;
  /** Called after every tile, and awaited. */
  onTile?: (done: number, of: number) => void | Promise<void>;
}

/**
 * Runs the graphs. -> their results, and the moments that their norms used.
 * Throws ShapeError when an operation cannot be tiled, DeviceError when the GPU fails, the signal's reason when aborted.
 */
export async function runTiled(
  device: Device,
  graphs: TiledGraph[],
  options: TiledOptions,
): Promise<{ results: FeatureMap[]; moments: Moments }> {
  const moments: Moments = new Map(options.moments);
  const runs = graphs.map(({ output, input }) => new GraphRun(output, input, options.tileBytes));
  const { segments } = runs[0];
  const of = runs.reduce((sum, run) => sum + run.segments.reduce((tiles, segment) => tiles + segment.tiles.length, 0), 0);
  let done = 0;
  const onTile = async () => {
    options.signal?.throwIfAborted();
    await options.onTile?.(++done, of);
  };
  for (const [i, { norms }] of segments.entries()) {
    const wanted = norms.filter(({ index }) => !moments.has(index));
    const found: Float32Array[][] = [];
    if (!segments[i].kept && wanted.length === 0) continue;
    for (const run of runs) found.push(await run.compute(device, run.segments[i], wanted, moments, onTile, options.signal));
    wanted.forEach(({ index }, norm) => {
      const each = found.map((ofRun) => ofRun[norm]);
      const pixels = runs.map((run) => run.segments[i].target.shape[1] * run.segments[i].target.shape[2]);
      moments.set(index, each.length === 1 ? each[0] : options.combine!(each, pixels));
    });
  }
  return { results: runs.map((run) => run.result), moments };
}

export interface TiledForecast {
  /** GPU memory at most, beside weights. */
  gpuBytes: number;
  /** Host memory of the feature maps at most. */
  hostBytes: number;
  tiles: number;
  /** One after the other, each for so many tiles. */
  programs: { plan: Plan; runs: number }[];
}

/** What `runTiled` of one graph will need; nothing is run. Throws ShapeError when a tile's tensor exceeds the largest binding. */
export function forecastTiled(output: Tensor, tileBytes: number, facts: AdapterFacts, limits: PlanLimits): TiledForecast {
  const run = new GraphRun(output, null, tileBytes);
  const onHost = new Set(run.inputs);
  const forecast: TiledForecast = { gpuBytes: 0, hostBytes: 0, tiles: 0, programs: [] };
  for (const { target, kept, tiles, norms, last } of run.segments) {
    for (const group of run.tileGraphs(target, tiles)) {
      const planned = plan(tileOutputs(group[0].graph, kept, norms), facts, limits);
      forecast.programs.push({ plan: planned, runs: group.length });
      forecast.gpuBytes = Math.max(forecast.gpuBytes, planned.bytes.total);
    }
    if (kept) onHost.add(target);
    forecast.hostBytes = Math.max(
      forecast.hostBytes,
      [...onHost].reduce((sum, { size }) => sum + 4 * size, 0),
    );
    for (const tensor of last) onHost.delete(tensor);
    forecast.tiles += tiles.length;
  }
  return forecast;
}

interface Norm {
  /** Its number in the graph's order. */
  index: number;
  groups: number;
}

/** A tensor that is computed in tiles from others that lie on the host. */
interface Segment {
  target: Tensor;
  /** Whether the target stays on the host, or only its moments are wanted. */
  kept: boolean;
  tiles: Window[];
  /** The norms that read the target. */
  norms: Norm[];
  /** Maps that no later segment reads. */
  last: Tensor[];
}

/** One tile's graph, and the windows of the maps that it reads, by input name. */
interface TileGraph {
  output: Tensor;
  reads: Map<string, { source: Tensor; window: Window }>;
  norms: Map<string, number>;
}

class GraphRun {
  readonly segments: Segment[];
  readonly inputs: Tensor[];
  private readonly order: Tensor[];
  private readonly index: Map<Tensor, number>;
  /**
   * What is kept on the host, now or when its turn has come: of the cuts, those that are read more than once, as a residual block's input is.
   * Of one that only a norm reads, as the tensor within the block, the moments are gathered, and its tiles are computed anew where they are
   * read: on a GPU that takes less time than bringing them to the host and back.
   */
  private readonly onHost: Set<Tensor>;
  private readonly maps = new Map<Tensor, FeatureMap>();
  private readonly output: Tensor;

  constructor(output: Tensor, input: FeatureMap | null, tileBytes: number) {
    this.output = output;
    this.order = topological([output]);
    this.index = new Map(this.order.map((tensor, i) => [tensor, i]));
    this.inputs = this.order.filter(({ source }) => source.kind === 'input');
    for (const tensor of this.inputs) if (input) this.maps.set(tensor, input);
    const cuts = new Set([...this.inputs, output]);
    for (const tensor of this.order) {
      if (isOp(tensor, groupNormOp)) cuts.add(tensor.source.inputs.x);
      else if (isOp(tensor, attentionOp)) for (const operand of inputsOf(tensor)) cuts.add(operand);
    }
    const targets = this.order.filter((tensor) => cuts.has(tensor) && !this.inputs.includes(tensor));
    const onHost = new Set(cuts);
    for (const target of targets) {
      const passing = this.readersOf(target).length === 1 && isOp(this.readersOf(target)[0], groupNormOp);
      if (passing && [...sourcesOf(target, cuts).onHost].every((source) => onHost.has(source))) onHost.delete(target);
    }
    this.onHost = onHost;
    const sources = targets.map((target) => sourcesOf(target, onHost));
    this.segments = targets.map((target, i) => ({
      target,
      kept: onHost.has(target),
      tiles: partition(target.shape[1], target.shape[2], pixelsOfTile(target, sources[i], tileBytes)),
      norms: this.order.flatMap((tensor, index) =>
        isOp(tensor, groupNormOp) && tensor.source.inputs.x === target ? [{ index, groups: tensor.source.attrs.groups }] : [],
      ),
      last: [...onHost].filter((map) => sources[i].onHost.has(map) && !sources.slice(i + 1).some((later) => later.onHost.has(map))),
    }));
  }

  private readersOf(tensor: Tensor): Tensor[] {
    return this.order.filter((reader) => inputsOf(reader).includes(tensor));
  }

  get result(): FeatureMap {
    return this.maps.get(this.output)!;
  }

  /** Computes a segment's target tile by tile. -> its moments for each of `norms`. Tiles of one form share a program, one at a time. */
  async compute(
    device: Device,
    { target, kept, tiles, last }: Segment,
    norms: Norm[],
    known: Moments,
    onTile: () => Promise<void>,
    signal?: AbortSignal,
  ): Promise<Float32Array[]> {
    const map = kept ? new FeatureMap(target.shape) : null;
    const totals = norms.map(({ groups }) => new MomentSum(target.shape[0] * groups, target.shape[3] / groups));
    for (const group of this.tileGraphs(target, tiles)) {
      const [{ graph }] = group;
      const program = await compile(device, tileOutputs(graph, kept, norms), signal);
      try {
        const given = new Map<string, Window>();
        let inputs: Record<string, Float32Array> = Object.fromEntries([...graph.norms].map(([name, norm]) => [name, known.get(norm)!]));
        for (const { window, graph } of group) {
          for (const [name, { source, window: read }] of graph.reads) {
            const before = given.get(name);
            if (before && sameWindow(before, read)) continue;
            inputs[name] = this.maps.get(source)!.read(read);
            given.set(name, read);
          }
          const results = await program.run(inputs);
          inputs = {};
          map?.write(window, results.tile);
          for (const [i, { index }] of norms.entries())
            totals[i].add(results[`moments ${index}`], (window.y1 - window.y0) * (window.x1 - window.x0));
          await onTile();
        }
      } finally {
        program.dispose();
      }
    }
    if (map) this.maps.set(target, map);
    for (const tensor of last) this.maps.delete(tensor);
    return totals.map((total) => total.moments());
  }

  /** The graphs of a target's tiles, in groups of one form: those of a group can share a program. */
  tileGraphs(target: Tensor, tiles: Window[]): { window: Window; graph: TileGraph }[][] {
    const byForm = new Map<string, { window: Window; graph: TileGraph }[]>();
    for (const window of tiles) {
      const graph = this.tileGraph(target, window);
      const form = formOf(graph.output);
      const group = byForm.get(form);
      if (group) group.push({ window, graph });
      else byForm.set(form, [{ window, graph }]);
    }
    return [...byForm.values()];
  }

  /** The graph of a window of `target`, which reads windows of maps on the host. */
  private tileGraph(target: Tensor, window: Window): TileGraph {
    const needed = new Map<Tensor, Window>([[target, window]]);
    const inner = (tensor: Tensor): tensor is OpTensor<unknown> =>
      needed.has(tensor) && (tensor === target || !this.onHost.has(tensor)) && tensor.source.kind === 'op';
    const end = this.index.get(target)!;
    for (let i = end; i >= 0; i--) {
      const tensor = this.order[i];
      if (!inner(tensor)) continue;
      for (const [name, read] of Object.entries(readWindows(tensor, needed.get(tensor)!))) {
        const from = tensor.source.inputs[name]!;
        needed.set(from, around(needed.get(from), read));
      }
    }

    const built = new Map<Tensor, Tensor>();
    const reads: TileGraph['reads'] = new Map();
    const norms: TileGraph['norms'] = new Map();
    for (let i = 0; i <= end; i++) {
      const tensor = this.order[i];
      const own = needed.get(tensor);
      if (!own) continue;
      const { y0, y1, x0, x1 } = own;
      if (!inner(tensor)) {
        const name = `map ${i}`;
        reads.set(name, { source: tensor, window: own });
        built.set(tensor, input(name, [tensor.shape[0], y1 - y0, x1 - x0, tensor.shape[3]]));
        continue;
      }
      const windowOf = (from: Tensor, read: Window) => part(built.get(from)!, needed.get(from)!, read);
      const moments = () => {
        norms.set(`moments ${i}`, i);
        return input(`moments ${i}`, [tensor.shape[0], isOp(tensor, groupNormOp) ? tensor.source.attrs.groups : 1, 2]);
      };
      built.set(tensor, onWindow(tensor, own, windowOf, moments));
    }
    return { output: built.get(target)!, reads, norms };
  }
}

/** What a tile's program gives: the tile where it is kept, and its moments for each norm. */
function tileOutputs({ output }: TileGraph, kept: boolean, norms: Norm[]): Record<string, Tensor> {
  const moments = norms.map(({ index, groups }) => [`moments ${index}`, groupMoments(output, groups)] as const);
  return { ...(kept && { tile: output }), ...Object.fromEntries(moments) };
}

/** The window `wanted` of x, which holds the window `has`. */
function part(x: Tensor, has: Window, wanted: Window): Tensor {
  let cut = x;
  if (wanted.y0 !== has.y0 || wanted.y1 !== has.y1) cut = slice(cut, 1, wanted.y0 - has.y0, wanted.y1 - has.y0);
  if (wanted.x0 !== has.x0 || wanted.x1 !== has.x1) cut = slice(cut, 2, wanted.x0 - has.x0, wanted.x1 - has.x0);
  return cut;
}

/** What a segment reads from the host, and what it computes on the way. */
function sourcesOf(target: Tensor, onHost: Set<Tensor>): { onHost: Set<Tensor>; inner: Set<Tensor> } {
  const found = { onHost: new Set<Tensor>(), inner: new Set<Tensor>() };
  const visit = (tensor: Tensor) => {
    if (tensor !== target && onHost.has(tensor)) found.onHost.add(tensor);
    else if (tensor.source.kind === 'op' && !found.inner.has(tensor)) {
      found.inner.add(tensor);
      inputsOf(tensor).forEach(visit);
    }
  };
  visit(target);
  return found;
}

/**
 * Pixels that a tile of the target may have: its largest map has at most `tileBytes`, its work is at most MOST_WORK. Keys and values of
 * attention are read whole, and do not count.
 */
function pixelsOfTile(target: Tensor, { onHost, inner }: { onHost: Set<Tensor>; inner: Set<Tensor> }, tileBytes: number): number {
  let work = 0;
  const whole = new Set<Tensor>();
  for (const tensor of inner) {
    const { source, shape } = tensor;
    if (source.kind !== 'op') continue;
    work += source.op.flops?.(source.inputs, { shape }, source.attrs) ?? 0;
    if (isOp(tensor, attentionOp)) for (const operand of [tensor.source.inputs.k, tensor.source.inputs.v]) whole.add(operand);
  }
  const largest = Math.max(...[...onHost, ...inner].filter((tensor) => !whole.has(tensor)).map(({ size }) => 4 * size));
  return target.shape[1] * target.shape[2] * Math.min(tileBytes / largest, MOST_WORK / Math.max(work, 1));
}

/** Equal for graphs that differ only in the values of their inputs. */
function formOf(output: Tensor): string {
  const order = topological([output]);
  const numbers = new Map(order.map((tensor, i) => [tensor, i]));
  return order
    .map((tensor) => {
      const { shape, source } = tensor;
      if (source.kind === 'op')
        return `${source.op.name} ${JSON.stringify(source.attrs)} ${inputsOf(tensor).map((each) => numbers.get(each))}`;
      return source.kind === 'input' ? `${source.name} ${shape}` : source.kind;
    })
    .join(';');
}

/** Moments over tiles: counts, means and sums of squared deviations, merged in f64. */
class MomentSum {
  private pixels = 0;
  private readonly mean: Float64Array;
  private readonly square: Float64Array;
  private readonly perPixel: number;

  constructor(groups: number, channelsPerGroup: number) {
    this.mean = new Float64Array(groups);
    this.square = new Float64Array(groups);
    this.perPixel = channelsPerGroup;
  }

  /** Moments (groups, 2) of so many pixels more. */
  add(moments: Float32Array, pixels: number): void {
    const total = this.pixels + pixels;
    for (let i = 0; i < this.mean.length; i++) {
      const apart = moments[2 * i] - this.mean[i];
      this.square[i] += this.perPixel * pixels * (moments[2 * i + 1] + apart * apart * (this.pixels / total));
      this.mean[i] += apart * (pixels / total);
    }
    this.pixels = total;
  }

  moments(): Float32Array {
    const count = this.perPixel * this.pixels;
    return Float32Array.from({ length: 2 * this.mean.length }, (_, i) => (i % 2 ? this.square[i >> 1] / count : this.mean[i >> 1]));
  }
}
