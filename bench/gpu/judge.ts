/**
 * `npm run bench -- gpu`: the kernels that take a restoration's time, compiled for AMD GPUs that need not be there, and what their compiler
 * says: registers, spills, waves, and the share of the inner loops' time that is multiply-adds. Nothing is run.
 */
import { type Compiled, compileFor } from './driver.ts';
import { type HotKernel, hotKernels } from './kernels.ts';
import { type Cost, type Loop, loopsOf, share, wholeCost } from './listing.ts';

export interface GpuResult {
  gpu: string;
  operation: string;
  shader: string;
  /** 32-bit vector registers of a lane, of which so many spilled to memory. */
  registers: number;
  spills: number;
  /** Bytes of workgroup memory. */
  shared: number;
  /** Waves that a SIMD holds at once, counted in waves of 32 lanes. */
  waves: number;
  instructions: number;
  /** Multiply-adds' share of the f32 issue peak, loop by loop, for the innermost loops that hold most of them; see listing.ts. */
  loops: number[];
  /** The same over one trip of the main loop with all that it holds: loads, barriers, softmax. Null where memory bounds the kernel. */
  whole: number | null;
}

/** Judges every kernel whose operation or shader contains `pattern`, GPU by GPU, and tells those that a GPU cannot run. Throws MissingTools. */
export function benchGpu(gpus: readonly string[], pattern: string, tell: (line: string) => void): GpuResult[] {
  const kernels = hotKernels().filter(({ operation, shader }) => `${operation} ${shader}`.includes(pattern));
  if (kernels.length === 0) throw new Error(`No kernel's name contains '${pattern}'.`);
  return gpus.flatMap((gpu) => {
    const compiled = compileFor(gpu, kernels);
    return kernels.flatMap((kernel, i) => {
      const { lacking } = compiled[i];
      if (lacking) tell(`skipped on ${gpu}, which offers no ${lacking}: ${kernel.shader}`);
      return lacking ? [] : [judge(gpu, kernel, compiled[i])];
    });
  });
}

function judge(gpu: string, { operation, shader, trips, split }: HotKernel, { lanes, numbers, assembly }: Compiled): GpuResult {
  const number = (name: string) => {
    const value = numbers.get(name);
    if (value === undefined) throw new Error(`RADV reports no '${name}'; it reports ${[...numbers.keys()].join(', ')}.`);
    return value;
  };
  const loops = trips ? loopsOf(assembly, lanes) : [];
  const multiplies = ({ multiplyAdds }: Cost) => multiplyAdds >= 16;
  const main = loops.find((loop) => all(loop).some(multiplies));
  const innermost = main ? main.inside.flatMap(leaves).filter(multiplies) : [];
  return {
    gpu,
    operation,
    shader,
    registers: number('VGPRs'),
    spills: number('Spilled VGPRs') + number('Spilled SGPRs'),
    shared: number('LDS size'),
    waves: number('Subgroups per SIMD'), // RADV counts waves of 64 lanes twice
    instructions: number('Instructions'),
    loops: [...new Set(innermost.map((cost) => share(cost, lanes) / split))],
    whole: main && trips ? share(wholeCost(main, trips), lanes) / split : null,
  };
}

/** The costs of a loop and of all that it holds. */
const all = ({ own, inside }: Loop): Cost[] => [own, ...inside.flatMap(all)];

/** The costs of the loops that hold no others. */
const leaves = ({ own, inside }: Loop): Cost[] => (inside.length > 0 ? inside.flatMap(leaves) : [own]);

export function gpuTable(results: readonly GpuResult[]): string {
  const rows = results.map(({ gpu, operation, shader, registers, spills, shared, waves, loops, whole }) => [
    gpu,
    operation,
    shader,
    String(registers),
    String(spills),
    String(shared),
    String(waves),
    loops.map((value) => value.toFixed(2)).join(' '),
    whole?.toFixed(2) ?? '',
  ]);
  const head = ['GPU', 'operation', 'shader', 'registers', 'spills', 'shared bytes', 'waves', 'inner loops', 'whole loop'];
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i].length)));
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
