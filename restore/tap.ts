/** Activations on their way out of a network: what a tap wants of a traced graph, and what a run of it hands over. */
import { UserError } from '../core/errors.ts';
import { places as placesOf } from '../core/module.ts';
import type { Shape } from '../core/shape.ts';
import { Tensor } from '../core/tensor.ts';
import { pixelAttention } from '../models/attention-inputs.ts';
import type { Values } from './values.ts';

/** Takes intermediate activations of the networks that a sampler calls, under their attribute paths; they may cost the last bit of the result. */
export interface Tap {
  /** Whether the result of a module is wanted, by its attribute path; blocks are the modules that networks are made of. */
  wanted(name: string, isBlock: boolean): boolean;
  /** Whether to look at a layer of attention between pixels too: its queries and keys are taken as `name.q` and `name.k`. */
  attention?(name: string, heads: number): boolean;
  /** Called after every evaluation with all that are wanted; the branches of guidance, negative and positive, one after the other. Awaited. */
  take(tensors: Record<string, Values>): void | Promise<void>;
}

/** What a tap wants of a graph and the results of its modules below `root`. Throws UserError where it wants none of what there is. */
export function tapped(
  tap: Tap,
  root: object,
  graph: Record<string, Tensor>,
  results: ReadonlyMap<object, unknown>,
): Record<string, Tensor> {
  const places = placesOf(root);
  const tensors: Record<string, Tensor> = {};
  const blocks: string[] = [];
  for (const [module, result] of results) {
    const { path, block } = places.get(module)!;
    if (!(result instanceof Tensor)) continue;
    if (path === block) blocks.push(path);
    if (tap.wanted(path, path === block)) tensors[path] = result;
  }
  if (Object.keys(tensors).length === 0)
    throw new UserError(
      `None of the activations has the name that a trace asks for. There are: ${blocks.join(', ')}, and what they are made of, by its full name.`,
    );
  for (const [module, { q, k, heads }] of tap.attention ? pixelAttention(graph) : []) {
    const { path } = places.get(module)!;
    if (tap.attention!(path, heads)) Object.assign(tensors, { [`${path}.q`]: q, [`${path}.k`]: k });
  }
  return tensors;
}

/** Hands over what a run of the tapped graph gave beside its results. */
export async function take(tap: Tap, values: Record<string, Float32Array>, outputs: ReadonlyMap<string, { shape: Shape }>): Promise<void> {
  await tap.take(Object.fromEntries(Object.entries(values).map(([name, data]) => [name, { data, shape: outputs.get(name)!.shape }])));
}
