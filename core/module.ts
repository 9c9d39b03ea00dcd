/**
 * Networks as trees of attributes. A weight's checkpoint key is its attribute path, so there is no table of names to keep in step:
 * `unet.input_blocks[4][1].norm.weight` is the tensor `input_blocks.4.1.norm.weight`.
 */
import { traced } from './scope.ts';
import { Parameter } from './tensor.ts';

export { Parameter };

/**
 * Base of networks, blocks and layers: own attributes that are parameters, modules, or arrays and plain objects of these, form the tree. A module
 * computes in `forward`, and the tensors that it makes there remember it.
 */
export abstract class Module {
  constructor() {
    const { forward } = this as { forward?: (...inputs: unknown[]) => unknown };
    if (!forward) return;
    // Not enumerable: it is no part of the tree.
    Object.defineProperty(this, 'forward', { value: (...inputs: unknown[]) => traced(this, () => forward.apply(this, inputs)) });
  }
}

/** Every parameter below `root` with its path, in attribute order. */
export function* parameters(root: object, path = ''): Generator<[string, Parameter]> {
  for (const [key, value] of Object.entries(root)) {
    const name = path ? `${path}.${key}` : key;
    if (value instanceof Parameter) yield [name, value];
    else if (isBranch(value)) yield* parameters(value, name);
  }
}

function isBranch(value: unknown): value is object {
  if (value instanceof Module || Array.isArray(value)) return true;
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** A module whose own modules are the blocks that drawings show and traces name. */
export abstract class NetworkModule extends Module {}

/** Where a module stands. */
export interface Place {
  /** Its attribute path. */
  path: string;
  /** The path of the block that it is or is in; null in a network but in none of its blocks. */
  block: string | null;
  /** The network's class. */
  network: string;
}

/** Where every module below `root` stands, and `root` itself. */
export function places(root: object): Map<object, Place> {
  const found = new Map<object, Place>();
  const visit = (value: object, path: string, within: Omit<Place, 'path'>) => {
    let here = within;
    if (value instanceof NetworkModule) here = { network: value.constructor.name, block: null };
    else if (value instanceof Module && path) here = { ...within, block: within.block ?? path };
    if (value instanceof Module) found.set(value, { path, ...here });
    for (const [key, child] of Object.entries(value)) if (isBranch(child)) visit(child, path ? `${path}.${key}` : key, here);
  };
  visit(root, '', { network: '', block: null });
  return found;
}

/** Gives every parameter below `root` its full checkpoint key. */
export function named<T extends object>(root: T, prefix: string): T {
  for (const [path, parameter] of parameters(root)) parameter.name = prefix + path;
  return root;
}
