/**
 * Networks as trees of attributes. A weight's checkpoint key is its attribute path, so there is no table of names to keep in step:
 * `unet.input_blocks[4][1].norm.weight` is the tensor `input_blocks.4.1.norm.weight`.
 */
import { Parameter } from './tensor.ts';

export { Parameter };

/** Base of networks and blocks: own attributes that are parameters, modules, layers, or arrays and plain objects of these, form the tree. */
export abstract class Module {}

/** Every parameter below `root` with its path, in attribute order. */
export function* parameters(root: object, path = ''): Generator<[string, Parameter]> {
  for (const [key, value] of Object.entries(root)) {
    const name = path ? `${path}.${key}` : key;
    if (value instanceof Parameter) yield [name, value];
    else if (isBranch(value)) yield* parameters(value, name);
  }
}

function isBranch(value: unknown): value is object {
  if (value instanceof Module || Array.isArray(value) || typeof value === 'function') return true;
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** Gives every parameter below `root` its full checkpoint key. */
export function named<T extends object>(root: T, prefix: string): T {
  for (const [path, parameter] of parameters(root)) parameter.name = prefix + path;
  return root;
}
