/** Which matrix unit an adapter's devices use: found out by a probe (matrix-probe.ts), and remembered for this adapter, driver, runtime and version. */
import type { MatrixUnit } from '../core/adapter.ts';
import { sha256 } from '../core/digest.ts';
import { isRecord } from '../core/json.ts';
import type { Notes } from '../core/notes.ts';
import { shaderSource } from '../core/shader.ts';
import { matrixMatmul } from '../kernels/implicit-matmul-matrix.ts';
import { AdapterNotes } from './adapter-notes.ts';
import type { MatrixAdapter } from './matrix-units.ts';

export interface MatrixChoice {
  /** The quickest of those that compute right; null where none does. */
  unit: MatrixUnit | null;
  /** Whether it is quicker than the tiled schedule: only then it is used without being asked for. */
  quicker: boolean;
  /** What was found, in words. */
  why: string;
}

export const NO_MATRICES = { unit: null, quicker: false } as const;

/** What is remembered of an adapter, or what `probe` finds, which is remembered then. */
export async function rememberedChoice(notes: Notes, { info }: MatrixAdapter, probe: () => Promise<MatrixChoice>): Promise<MatrixChoice> {
  const { vendor, architecture, device, description } = info;
  const sizes: [number, number] = [info.subgroupMinSize ?? 0, info.subgroupMaxSize ?? 0];
  const kept = new AdapterNotes(notes, { vendor, architecture, device, description, subgroupSizes: sizes });
  const kernel = await kernelDigest();
  const known = await kept.read('matrices');
  if (isRecord(known) && known.kernel === kernel && isChoice(known.choice)) return known.choice;
  const choice = await probe();
  await kept.write('matrices', { kernel, choice });
  return choice;
}

/** Of the kernel's text, which a version of the program may have changed without having another number. */
function kernelDigest(): Promise<string> {
  const epilogue = { column: 'add', residual: 'none', residualType: 'f32', activation: 'none', width: 4, told: false } as const;
  const variant = { x: 'f32', w: 'f32', inWidth: 4, epilogue, lowRank: true, windowed: true, turned: false } as const;
  return sha256(shaderSource(matrixMatmul(variant, { input: 'f16', m: 16, n: 16, k: 16, lanes: 32 }, new Set())));
}

function isChoice(value: unknown): value is MatrixChoice {
  if (!isRecord(value) || typeof value.quicker !== 'boolean' || typeof value.why !== 'string') return false;
  const { unit } = value;
  return (
    unit === null ||
    (isRecord(unit) && ['m', 'n', 'k', 'lanes'].every((key) => Number.isInteger(unit[key])) && /^f(16|32)$/.test(`${unit.input}`))
  );
}
