/**
 * A compute shader as data: its bindings, its uniform parameters and its WGSL body. From these the full WGSL is written, so that a kernel's
 * body never mentions storage types: it calls `x_load(i)` and `y_store(i, v)` whatever x and y are stored as.
 *
 * f16 tensors are stored as packed pairs in u32 and unpacked by `unpack2x16float`, which every host has; `shader-f16` is not needed.
 */

import { type BlockDType, blockBytes, isBlocks, loadBlocks } from './blocks.ts';

/** How a tensor is stored. Blocks are for weights alone: kernels read them as they read f32, and none writes them. */
export type DType = 'f32' | 'f16' | 'u32' | BlockDType;

/** How tensors are stored, by name. */
export type DTypes<Name extends string> = Readonly<Record<Name, DType>>;

/** A tensor that a shader reads or writes. */
export interface Binding {
  dtype: DType;
  /** Elements a load or store moves: 1, or 4 where the tensor's last axis is a multiple of 4. */
  width: 1 | 4;
  /** True for the output. An f16 output needs width 4: two halves share a word, and two threads may not share a store. */
  write?: boolean;
  /** True for an output that is read too, because it is changed where it lies. */
  read?: boolean;
}

/** Bindings by their names in WGSL, in order; one that a variant of a kernel lacks is absent. */
export type Bindings = { readonly [name: string]: Binding | undefined };

/** Uniform parameters by their names in WGSL, in order, with their types there. */
export type Params = { readonly [name: string]: 'u32' | 'i32' | 'f32' | undefined };

export interface ShaderSpec<P extends Params = Params, B extends Bindings = Bindings> {
  name: string;
  bindings: B;
  params: P;
  /** Threads of a workgroup (one-dimensional; at most 256, the least that adapters offer). */
  workgroup: number;
  /** True where the body calls subgroup functions; only on adapters whose facts have the feature 'subgroups'. */
  subgroups?: boolean;
  /**
   * Where the body calls subgroup matrix functions: of which numbers, and the size that subgroups must be asked to have, null where they have no other.
   * Only on adapters whose facts have the schedule 'matrix'. There are no other subgroup functions beside them: drivers have crashed on both together.
   */
  matrices?: { input: 'f16' | 'f32'; lanes: number | null };
  /** WGSL: helper functions and `fn run(id: u32, group: u32, local: u32)`, id being the thread's number in the whole grid. */
  code: string;
}

/** A shader whose bindings and parameters TypeScript knows by name, so that a dispatch of it must give each of them (lowering.ts). */
export function shader<const P extends Params, const B extends Bindings>(spec: ShaderSpec<P, B>): ShaderSpec<P, B> {
  return spec;
}

/** What makes each shader once, for the arguments that JSON tells apart: kernels ask for one at every dispatch, and texts are long. */
export function remembered<A extends readonly unknown[], S>(make: (...variant: A) => S): (...variant: A) => S {
  const made = new Map<string, S>();
  return (...variant) => {
    const key = JSON.stringify(variant);
    let known = made.get(key);
    if (known === undefined) made.set(key, (known = make(...variant)));
    return known;
  };
}

/** Bindings or parameters that only some variants of a kernel have. */
export function when<const T>(condition: boolean, fields: T): Partial<T> {
  return condition ? fields : {};
}

/** Names with what they stand for, in order, without those that are absent. */
export function present<T>(fields: { readonly [name: string]: T | null | undefined }): [string, T][] {
  return Object.entries(fields).filter((entry): entry is [string, T] => entry[1] !== undefined && entry[1] !== null);
}

/** What WGSL must be told of subgroup matrices. That threads whose numbers follow one another are a subgroup is taken for granted, and not checked. */
function matrixDirectives({ input, lanes }: NonNullable<ShaderSpec['matrices']>): string {
  const extensions = [input === 'f16' && 'f16', 'subgroups', lanes && 'subgroup_size_control', 'chromium_experimental_subgroup_matrix'];
  return `enable ${extensions.filter(Boolean).join(', ')};\ndiagnostic(off, chromium.subgroup_matrix_uniformity);`;
}

/** The uniform parameter behind a kernel's own: a dispatch that is divided begins at this workgroup. */
const FIRST_GROUP = 'first_group';

/** Bytes of a shader's uniform struct, and where `first_group` lies in it. */
export function paramBytes({ params }: Pick<ShaderSpec, 'params'>): { bytes: number; firstGroup: number } {
  const firstGroup = 4 * present(params).length;
  return { bytes: Math.ceil((firstGroup + 4) / 16) * 16, firstGroup };
}

/** The whole WGSL module. Binding 0 is the uniform struct `p`; the others follow in their order. */
export function shaderSource(spec: ShaderSpec): string {
  return `// ${spec.name}
${spec.subgroups ? 'enable subgroups;' : ''}${spec.matrices ? matrixDirectives(spec.matrices) : ''}
struct Params { ${[...present(spec.params), [FIRST_GROUP, 'u32']].map(([name, type]) => `${name}: ${type}`).join(', ')} }
@group(0) @binding(0) var<uniform> p: Params;
${present(spec.bindings)
  .map(([name, binding], i) => declare(name, binding, i + 1))
  .join('\n')}
${present(spec.bindings).some(([, { dtype, write }]) => write && dtype === 'f16') ? `${PACK_HALVES}\n` : ''}${spec.code}
@compute @workgroup_size(${spec.workgroup})${spec.matrices?.lanes ? ` @subgroup_size(${spec.matrices.lanes})` : ''}
fn main(@builtin(workgroup_id) group_id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let group = p.${FIRST_GROUP} + group_id.y * groups.x + group_id.x;
  run(group * ${spec.workgroup}u + local, group, local);
}
`;
}

/** The element type that loads and stores of a binding have in WGSL. */
export function elementType(binding: { dtype: DType; width: 1 | 4 }): string {
  const scalar = binding.dtype === 'u32' ? 'u32' : 'f32';
  return binding.width === 4 ? `vec4<${scalar}>` : scalar;
}

/**
 * pack2x16float for every number: WGSL leaves open what it makes of those beyond f16's range, and SwiftShader makes NaN of 70000 and infinity. From
 * 65520 on the nearest f16 is infinity.
 */
const PACK_HALVES = `fn pack_halves(v: vec2<f32>) -> u32 {
  let size = bitcast<vec2<u32>>(v) & vec2<u32>(0x7fffffffu);
  let beyond = size >= vec2<u32>(0x477ff000u);
  let packed = pack2x16float(select(clamp(v, vec2<f32>(-65504.0), vec2<f32>(65504.0)), vec2<f32>(0.0), beyond));
  let ends = select(vec2<u32>(0x7c00u), vec2<u32>(0x7e00u), size > vec2<u32>(0x7f800000u)) | ((bitcast<vec2<u32>>(v) >> vec2<u32>(16u)) & vec2<u32>(0x8000u));
  let bits = select(vec2<u32>(packed & 0xffffu, packed >> 16u), ends, beyond);
  return bits.x | (bits.y << 16u);
}`;

function declare(name: string, binding: Binding, index: number): string {
  const { dtype, width, write } = binding;
  const element = elementType(binding);
  const halves = dtype === 'f16';
  const stored = isBlocks(dtype) ? 'u32' : halves ? (width === 4 ? 'vec2<u32>' : 'u32') : element;
  const lines = [`@group(0) @binding(${index}) var<storage, ${write ? 'read_write' : 'read'}> ${name}: array<${stored}>;`];
  if (write) {
    if (halves && width === 1) throw new Error(`${name}: an f16 output needs width 4`);
    if (isBlocks(dtype)) throw new Error(`${name}: kernels do not write ${dtype}`);
    const value = halves ? 'vec2<u32>(pack_halves(v.xy), pack_halves(v.zw))' : 'v';
    lines.push(`fn ${name}_store(i: u32, v: ${element}) { ${name}[i] = ${value}; }`);
  }
  if (!write || binding.read) {
    const load = isBlocks(dtype)
      ? loadBlocks(name, dtype, width)
      : !halves
        ? `return ${name}[i];`
        : width === 4
          ? `let h = ${name}[i]; return vec4<f32>(unpack2x16float(h.x), unpack2x16float(h.y));`
          : `let h = unpack2x16float(${name}[i >> 1u]); return select(h.x, h.y, (i & 1u) == 1u);`;
    lines.push(`fn ${name}_load(i: u32) -> ${element} { ${load} }`);
  }
  return lines.join('\n');
}

/** Bytes of `count` elements, rounded up to whole 16-byte words as buffers are. */
export function storageBytes(dtype: DType, count: number): number {
  const bytes = isBlocks(dtype) ? blockBytes(dtype, count) : count * (dtype === 'f16' ? 2 : 4);
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

/**
 * WGSL of a loop through `body` for each `index` from 0 below `count`, which is above 0, by `step`. It ends at its foot: drivers of processors go once more
 * through a loop that ends at its head, with all lanes masked.
 */
export const loopBelow = (index: string, count: string, body: string, step = '1u') => `{
  var ${index} = 0u;
  loop {
    ${body}
    continuing {
      ${index} += ${step};
      break if ${index} >= ${count};
    }
  }
}`;

/** Lines of WGSL, one for each number below `count`. */
export const each = (count: number, line: (i: number) => string): string => Array.from({ length: count }, (_, i) => line(i)).join('\n');
