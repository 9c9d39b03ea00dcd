/**
 * A traced graph as blocks: operations gathered by the module that made them, with shapes, parameters and work. What a network is made of, told
 * by the network itself; `graph-svg.ts` draws it.
 */
import { inputsOf, topological } from '../core/graph.ts';
import { Module, type Parameter, type Place, places } from '../core/module.ts';
import { type Shape, sameShape, sizeOf, type Tensor } from '../core/tensor.ts';

/** A block, or a part of one. */
export interface Work {
  /** Attribute path, which is how checkpoint keys begin; of a part, within its block. */
  path: string;
  /** Class of the module at that path, of modules that are all of one class with their number; else empty. */
  kind: string;
  /** Elements of all weights. */
  parameters: number;
  /** Floating-point operations of convolutions, matrix products and attention: multiply-adds times two. */
  flops: number;
  /** How many operations of each name. */
  operations: Record<string, number>;
}

export interface GraphBlock extends Work {
  /** Of the tensor that leaves the block. */
  shape: Shape;
  /** What it is made of, in order of the trace, where there is more than one. */
  parts: Work[];
  /** Blocks one after the other that are alike and stand here as one; parameters and work are those of all. */
  count: number;
  /** Names of the graph's inputs, and paths of blocks that very many read: no edges are drawn for them. */
  reads: string[];
  /** Whether very many read it. */
  shared: boolean;
  /** Class of the network that it is a block of. */
  network: string;
}

export interface BlockGraph {
  inputs: { name: string; shape: Shape }[];
  /** In order of the trace. */
  blocks: GraphBlock[];
  /** From block to block, by path, with the shape of what is handed on. Both directions where a block reads its reader. */
  edges: { from: string; to: string; shape: Shape }[];
}

/** A block that more than this many others read is shared. */
const FEW = 4;

/** `outputs`: a traced graph. `root`: the tree of the modules that traced it, whose parameters are named by it (`named`). */
export function blocksOf(outputs: Record<string, Tensor>, root: object): BlockGraph {
  const results = Object.values(outputs);
  const order = topological(results);
  const operations = order.filter(({ source }) => source.kind === 'op').sort((a, b) => a.serial - b.serial);
  const home = homes(operations, places(root));

  const blocks = new Map<string, GraphBlock>();
  const counted = new Set<Parameter>();
  for (const tensor of operations) {
    const { block: path, part, network } = home.get(tensor)!;
    let block = blocks.get(path);
    if (!block)
      blocks.set(path, (block = { ...nothing(root, path, ''), shape: [], parts: [], count: 1, reads: [], shared: false, network }));
    let piece = block.parts.find((each) => each.path === part);
    if (!piece) block.parts.push((piece = nothing(root, part, path)));
    for (const into of [block, piece]) addTo(into, tensor, counted);
    for (const parameter of parametersOf(tensor)) counted.add(parameter);
  }

  const edges: BlockGraph['edges'] = [];
  const blockOf = (tensor: Tensor) => home.get(tensor)?.block;
  for (const tensor of operations) {
    const to = blockOf(tensor)!;
    for (const from of inputsOf(tensor)) {
      if (from.source.kind === 'input') addOnce(blocks.get(to)!.reads, from.source.name);
      const path = blockOf(from);
      if (path === undefined || path === to) continue;
      blocks.get(path)!.shape = from.shape;
      if (!edges.some((edge) => edge.from === path && edge.to === to)) edges.push({ from: path, to, shape: from.shape });
    }
  }
  for (const result of results) if (blockOf(result)) blocks.get(blockOf(result)!)!.shape = result.shape;

  const inputs = order.flatMap(({ source, shape }) => (source.kind === 'input' ? [{ name: source.name, shape }] : []));
  const all = [...blocks.values()];
  for (const block of all) if (block.parts.length === 1) block.parts = [];
  return withoutRepeats(withoutShared({ inputs, blocks: all, edges }));
}

interface Home {
  block: string;
  /** Within the block. */
  part: string;
  network: string;
}

/**
 * Where each operation belongs: to the block whose module made it. What a network itself makes between its blocks goes to the weight that it reads;
 * without one to the block that alone reads it (a concatenation), else to the one traced before it.
 */
function homes(operations: readonly Tensor[], known: ReadonlyMap<object, Place>): Map<Tensor, Home> {
  const home = new Map<Tensor, Home>();
  const between: Tensor[] = [];
  for (const tensor of operations) {
    const { path = '', block = null, network = '' } = known.get(tensor.module!) ?? {};
    const own = block ?? parametersOf(tensor)[0]?.name.replace(/\.weight$/, '');
    if (own === undefined) between.push(tensor);
    else home.set(tensor, { block: own, part: path.slice(own.length + 1).split('.')[0], network });
  }
  const readers = new Map<Tensor, Tensor[]>();
  for (const tensor of operations) for (const from of inputsOf(tensor)) readers.set(from, [...(readers.get(from) ?? []), tensor]);
  for (const tensor of between.reverse()) {
    const next = (readers.get(tensor) ?? []).map((reader) => home.get(reader)!);
    const isOne = next.length > 0 && next.every(({ block }) => block === next[0].block);
    const before = operations.findLast((each) => each.serial < tensor.serial && home.has(each));
    const found = isOne ? next[0] : (before && home.get(before)) || next[0];
    home.set(tensor, found ? { ...found, part: '' } : { block: '', part: '', network: '' });
  }
  return home;
}

function parametersOf(tensor: Tensor): Parameter[] {
  return inputsOf(tensor).flatMap(({ source }) => (source.kind === 'parameter' ? [source.parameter] : []));
}

function nothing(root: object, path: string, within: string): Work {
  let at: unknown = root;
  for (const key of `${within}.${path}`.split('.').filter(Boolean)) at = (at as Record<string, unknown> | undefined)?.[key];
  return { path, kind: kindOf(at), parameters: 0, flops: 0, operations: {} };
}

function kindOf(at: unknown): string {
  if (at instanceof Module) return at.constructor.name;
  if (!Array.isArray(at)) return '';
  const kinds = at.map(kindOf);
  if (!kinds.every((kind) => kind && kind === kinds[0])) return '';
  return at.length === 1 ? kinds[0] : `${at.length} ${kinds[0]}`;
}

function addTo(work: Work, tensor: Tensor, counted: ReadonlySet<Parameter>): void {
  if (tensor.source.kind !== 'op') return;
  const { op, inputs, attrs } = tensor.source;
  work.operations[op.name] = (work.operations[op.name] ?? 0) + 1;
  work.flops += op.flops?.(inputs, tensor, attrs) ?? 0;
  for (const parameter of new Set(parametersOf(tensor))) if (!counted.has(parameter)) work.parameters += sizeOf(parameter.shape);
}

/** What very many read becomes a name that they list. */
function withoutShared(graph: BlockGraph): BlockGraph {
  for (const block of graph.blocks) {
    const readers = graph.edges.filter(({ from }) => from === block.path);
    if (readers.length <= FEW) continue;
    block.shared = true;
    for (const { to } of readers) addOnce(graph.blocks.find(({ path }) => path === to)!.reads, block.path);
  }
  const shared = new Set(graph.blocks.filter((block) => block.shared).map(({ path }) => path));
  return { ...graph, edges: graph.edges.filter(({ from }) => !shared.has(from)) };
}

/** Alike blocks in a chain, each read by the next one alone, become one with a count. */
function withoutRepeats({ inputs, blocks, edges }: BlockGraph): BlockGraph {
  const merged: GraphBlock[] = [];
  const renamed = new Map<string, string>();
  const into = (path: string) => edges.filter(({ to }) => to === path);
  const outOf = (path: string) => edges.filter(({ from }) => from === path);
  let last = '';
  for (const block of blocks) {
    const [previous] = merged.slice(-1);
    const chained = outOf(last).length === 1 && into(block.path).length === 1 && outOf(last)[0].to === block.path;
    if (previous && chained && alike(previous, block)) {
      const first = renamed.get(last) ?? last;
      renamed.set(block.path, first);
      previous.count++;
      previous.parameters += block.parameters;
      previous.flops += block.flops;
    } else merged.push({ ...block });
    last = block.path;
  }
  const name = (path: string) => renamed.get(path) ?? path;
  const kept = edges.map((edge) => ({ ...edge, from: name(edge.from), to: name(edge.to) })).filter(({ from, to }) => from !== to);
  return { inputs, blocks: merged, edges: kept };
}

function alike(a: GraphBlock, b: GraphBlock): boolean {
  const array = ({ path }: GraphBlock) => path.replace(/\.\d+$/, '');
  const same = a.parameters === a.count * b.parameters && a.flops === a.count * b.flops && sameShape(a.shape, b.shape);
  return array(a) !== a.path && array(a) === array(b) && same && String(a.reads) === String(b.reads);
}

function addOnce<T>(list: T[], item: T): void {
  if (!list.includes(item)) list.push(item);
}
