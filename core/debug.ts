/** What a program is made of, as text that a person can read: the traced graph, the fused one, the plan with lifetimes, the shaders. */

import type { Storage, Value } from './dispatch.ts';
import { UserError } from './errors.ts';
import { formatWgsl } from './format-wgsl.ts';
import { topological } from './graph.ts';
import type { Plan } from './plan.ts';
import { type ShaderSpec, shaderSource } from './shader.ts';
import { showShape } from './shape.ts';
import type { Tensor } from './tensor.ts';

export const DEBUG_PARTS = ['graph', 'fused', 'plan', 'wgsl'] as const;
export type DebugPart = (typeof DEBUG_PARTS)[number];

/** What a device prints of each program that it compiles. */
export interface DebugOptions {
  parts: readonly DebugPart[];
  /** Takes a text of some lines. */
  print(text: string): void;
}

/** 'graph,plan' -> its parts; null for an empty text. Throws UserError for other words. */
export function debugParts(text: string | undefined): DebugPart[] | null {
  const parts = (text ?? '').split(',').flatMap((part) => part.trim() || []);
  const odd = parts.find((part) => !(DEBUG_PARTS as readonly string[]).includes(part));
  if (odd !== undefined)
    throw new UserError(`'${odd.slice(0, 40)}' cannot be printed for debugging; there are: ${DEBUG_PARTS.join(', ')}.`);
  return parts.length > 0 ? (parts as DebugPart[]) : null;
}

/** A graph, a line for each tensor in order of computation: its number, what makes it of which others, shape and type. */
export function graphText(title: string, outputs: Record<string, Tensor>): string {
  const order = topological(Object.values(outputs));
  const number = new Map(order.map((tensor, i) => [tensor, `%${i}`]));
  const lines = order.map((tensor) => {
    const { shape, dtype, source } = tensor;
    const made =
      source.kind === 'op'
        ? `${source.op.name}(${named(source.inputs, (input) => number.get(input)!)})${attributes(source.attrs)}`
        : source.kind === 'parameter'
          ? `weight ${source.parameter.name}`
          : source.kind === 'input'
            ? `input ${source.name}`
            : 'constant';
    return `  ${number.get(tensor)} = ${made} -> ${showShape(shape)} ${dtype}`;
  });
  const results = Object.entries(outputs).map(([name, tensor]) => `  ${name} = ${number.get(tensor)}`);
  const operations = order.filter(({ source }) => source.kind === 'op').length;
  return [`${title}: ${operations} operations`, ...lines, 'outputs:', ...results].join('\n');
}

function named(inputs: Record<string, Tensor | null>, show: (input: Tensor) => string): string {
  return Object.entries(inputs)
    .flatMap(([name, input]) => (input ? [`${name}: ${show(input)}`] : []))
    .join(', ');
}

/** Scalars of a program by their names, long lists cut. */
function attributes(attrs: unknown): string {
  if (attrs === null || typeof attrs !== 'object') return '';
  const text = JSON.stringify(attrs).replaceAll('"', '');
  return ` ${text.length > 160 ? `${text.slice(0, 160)} ...` : text}`;
}

const amount = (bytes: number) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

/** A plan: dispatches with what they read and write, then every buffer with its size, and for reused ones who lives in it from when to when. */
export function planText({ dispatches, once, reusing, slots, outputs, bytes, flops }: Plan): string {
  const lines = [
    `plan: ${dispatches.length} dispatches${once > 0 ? ` (the first ${once} run once)` : ''}${reusing ? ` (${reusing.size} of them where a result is taken over)` : ''}, ${(flops / 1e9).toFixed(3)} GFLOP, ${amount(bytes.total)} of buffers (intermediates ${amount(bytes.intermediates)} in ${slots.length}, inputs and constants ${amount(bytes.inputs)}, parameters ${amount(bytes.params)}, results ${amount(bytes.results)}), weights ${amount(bytes.weights)}`,
  ];
  const lives = new Map<Storage, { label: string; from: number; to: number | 'the end' }>();
  dispatches.forEach(({ shader, operands, threads, label }, i) => {
    const names = Object.entries(shader.bindings).flatMap(([name, binding]) => (binding ? [{ name, write: binding.write }] : []));
    const shown = operands.map((value, n) => `${names[n].write ? '-> ' : ''}${names[n].name}: ${placeOf(value)}`);
    lines.push(`  ${i}  ${label}`, `      ${shader.name}, ${threads} threads; ${shown.join(', ')}`);
    for (const { storage, label } of operands) {
      const life = lives.get(storage);
      if (life) life.to = i;
      else lives.set(storage, { label, from: i, to: i });
    }
  });
  for (const { storage } of outputs.values()) if (lives.has(storage)) lives.get(storage)!.to = 'the end';
  lines.push('buffers:');
  slots.forEach((size, slot) => {
    lines.push(`  slot ${slot}, ${amount(size)}`);
    for (const [storage, { label, from, to }] of lives)
      if (storage.kind === 'pooled' && storage.slot === slot) lines.push(`      ${from} to ${to}: ${label}, ${amount(storage.bytes)}`);
  });
  lines.push('outputs:', ...[...outputs].map(([name, value]) => `  ${name} = ${placeOf(value)} ${showShape(value.shape)} ${value.dtype}`));
  return lines.join('\n');
}

function placeOf({ storage, label }: Value): string {
  return storage.kind === 'pooled' ? `slot ${storage.slot}` : storage.kind === 'parameter' ? `weight ${storage.parameter.name}` : label;
}

/** Modules that have not been printed before, formatted. */
export function shaderTexts(shaders: Iterable<ShaderSpec>, printed: Set<string>): string[] {
  return [...shaders].flatMap((shader) => {
    const wgsl = shaderSource(shader);
    if (printed.has(wgsl)) return [];
    printed.add(wgsl);
    return [formatWgsl(wgsl)];
  });
}
