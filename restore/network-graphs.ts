/** The networks of a method as graphs of blocks, for any configuration and image size; no weights and no GPU are needed. */
import { named } from '../core/module.ts';
import { type BlockGraph, blocksOf } from '../drawing/graph-blocks.ts';
import type { Kind, Method } from './stage.ts';
import { SUPIR } from './supir.ts';

/** What the stages run, and parts of it that are drawn by themselves. */
export function networkNames<K extends Kind>({ stages, plain, parts = {} }: Method<K>): string[] {
  return [...new Set([...stages(plain).map(({ graph }) => graph), ...Object.keys(parts)])];
}

/** Of SUPIR: denoiser is control network and UNet, as one sampling step runs them, text both towers. */
export const NETWORK_NAMES: readonly string[] = networkNames(SUPIR);

/** The blocks of one of a method's networks for one image of width x height pixels, sides multiples of the configuration's `image_multiple`. */
export function networkGraph(config: typeof SUPIR.published, name: string, width: number, height: number): BlockGraph;
export function networkGraph<K extends Kind>(
  config: K['model']['config'],
  name: string,
  width: number,
  height: number,
  method: Method<K>,
): BlockGraph;
export function networkGraph(
  config: Kind['model']['config'],
  name: string,
  width: number,
  height: number,
  method: Method<Kind> = SUPIR,
): BlockGraph {
  const { plain, parts = {} } = method;
  const networks = named(method.networks(config), '');
  const size = { width, height };
  const stage = method.stages(plain).find(({ graph }) => graph === name);
  return blocksOf(stage ? stage.build(networks, plain, size) : parts[name].build(networks, size), networks);
}
