/** ONNX models of a few nodes, written as protocol buffers by hand: onnxruntime takes nothing else. (onnx.proto3; opset 17) */

export type Attribute = number | number[] | { float: number };

export interface Node {
  op: string;
  inputs: string[];
  outputs: string[];
  attributes?: Record<string, Attribute>;
  /** '' or 'com.microsoft'. */
  domain?: string;
}

const varint = (value: number): number[] => (value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))]);
const number = (field: number, value: number) => [...varint(field << 3), ...varint(value)];
const bytes = (field: number, value: ArrayLike<number>) => [...varint((field << 3) | 2), ...varint(value.length), ...Array.from(value)];
const text = (field: number, value: string) => bytes(field, new TextEncoder().encode(value));
const float = (field: number, value: number) => [...varint((field << 3) | 5), ...new Uint8Array(new Float32Array([value]).buffer)];

function attribute(name: string, value: Attribute): number[] {
  // Types: 1 float, 2 integer, 7 integers.
  if (typeof value === 'number') return [...text(1, name), ...number(3, value), ...number(20, 2)];
  if (Array.isArray(value)) return [...text(1, name), ...value.flatMap((each) => number(8, each)), ...number(20, 7)];
  return [...text(1, name), ...float(2, value.float), ...number(20, 1)];
}

function node({ op, inputs, outputs, attributes = {}, domain = '' }: Node): number[] {
  return [
    ...inputs.flatMap((name) => text(1, name)),
    ...outputs.flatMap((name) => text(2, name)),
    ...text(4, op),
    ...Object.entries(attributes).flatMap(([name, value]) => bytes(5, attribute(name, value))),
    ...text(7, domain),
  ];
}

/** An f32 value, of known shape or of none. */
function value(name: string, shape?: number[]): number[] {
  const dims = shape
    ? bytes(
        2,
        shape.flatMap((size) => bytes(1, number(1, size))),
      )
    : [];
  return [...text(1, name), ...bytes(2, bytes(1, [...number(1, 1), ...dims]))];
}

/** Integers that a node reads as data, such as a shape. */
function integers(name: string, values: number[]): number[] {
  return [...number(1, values.length), ...number(2, 7), ...values.flatMap((each) => number(7, each)), ...text(8, name)];
}

/** The model of a graph from f32 inputs of known shapes to the output y. */
export function onnxModel(nodes: Node[], inputs: Record<string, number[]>, constants: Record<string, number[]> = {}): Uint8Array {
  const graph = [
    ...nodes.flatMap((each) => bytes(1, node(each))),
    ...text(2, 'case'),
    ...Object.entries(constants).flatMap(([name, values]) => bytes(5, integers(name, values))),
    ...Object.entries(inputs).flatMap(([name, shape]) => bytes(11, value(name, shape))),
    ...bytes(12, value('y')),
  ];
  const opset = (domain: string, version: number) => bytes(8, [...text(1, domain), ...number(2, version)]);
  return Uint8Array.from([...number(1, 8), ...bytes(7, graph), ...opset('', 17), ...opset('com.microsoft', 1)]);
}
