/** Telling whether two graphs are the same, so that what was planned for one serves the other. */
import { inputsOf, topological } from './graph.ts';
import type { Tensor } from './tensor.ts';

const numbers = new WeakMap<object, number>();
let objects = 0;

/** A number for an object: the same one each time it is asked. */
function numberOf(object: object | null): number {
  if (!object) return -1;
  let number = numbers.get(object);
  if (number === undefined) numbers.set(object, (number = objects++));
  return number;
}

/** A text that two graphs share if they compute the same from the same weights and constants, traced by the same modules. */
export function graphKey(outputs: Record<string, Tensor>): string {
  const order = topological(Object.values(outputs));
  const places = new Map(order.map((tensor, i) => [tensor, i]));
  const nodes = order.map((tensor) => {
    const { shape, dtype, module, source } = tensor;
    return `${dtype} ${shape} ${numberOf(module)} ${contents(source)} ${source.kind === 'op' ? inputsOf(tensor).map((input) => places.get(input)) : ''}`;
  });
  return [...Object.entries(outputs).map(([name, tensor]) => `${name} ${places.get(tensor)}`), ...nodes].join('\n');
}

function contents(source: Tensor['source']): string {
  switch (source.kind) {
    case 'input':
      return `input ${source.changes} ${source.name}`;
    case 'constant':
      return `constant ${numberOf(source.data)}`;
    case 'parameter':
      return `parameter ${numberOf(source.parameter)} ${source.parameter.dtype} ${source.parameter.changes}`;
    case 'op': {
      const given = Object.entries(source.inputs).map(([name, input]) => (input ? name : ''));
      return `op ${numberOf(source.op)} ${given} ${JSON.stringify(source.attrs, exactly)}`;
    }
  }
}

/** JSON has no infinities and no NaN. */
const exactly = (_: string, value: unknown): unknown => (typeof value === 'number' && !Number.isFinite(value) ? String(value) : value);
