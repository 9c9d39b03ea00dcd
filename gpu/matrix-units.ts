/** Which products an adapter's matrix units offer, as far as the matrix schedule can be made of them, and why there are none. */
import { MATRIX_FEATURE, type MatrixUnit } from '../core/adapter.ts';
import { suitsUnit } from '../kernels/implicit-matmul-matrix.ts';

/** What of an adapter tells. */
export type MatrixAdapter = Pick<GPUAdapter, 'features' | 'info'>;

/** A product that an adapter lists: M x K by K x N. Not yet in the types of WebGPU. */
interface MatrixConfig {
  componentType: string;
  resultComponentType: string;
  M: number;
  N: number;
  K: number;
}

const configsOf = ({ info }: MatrixAdapter): MatrixConfig[] => [
  ...((info as { subgroupMatrixConfigs?: Iterable<MatrixConfig> }).subgroupMatrixConfigs ?? []),
];

/**
 * The units, those that multiply halves first. What size of subgroups they are meant for is told nowhere: where there are several, the usual one comes
 * first. Sums in halves are left out, for they keep 11 bits.
 */
export function matrixUnits(adapter: MatrixAdapter): MatrixUnit[] {
  const { features, info } = adapter;
  if (!features.has(MATRIX_FEATURE) || !features.has('subgroups')) return [];
  const sizes = [...new Set([32, info.subgroupMinSize, info.subgroupMaxSize])].filter(
    (lanes) => lanes >= info.subgroupMinSize && lanes <= info.subgroupMaxSize,
  );
  return (['f16', 'f32'] as const).flatMap((input) =>
    configsOf(adapter)
      .filter(({ componentType, resultComponentType }) => componentType === input && resultComponentType === 'f32')
      .flatMap(({ M, N, K }) => sizes.map((lanes): MatrixUnit => ({ input, m: M, n: N, k: K, lanes })))
      .filter((unit) => suitsUnit(unit) && (input === 'f32' || features.has('shader-f16'))),
  );
}

/** Dawn's words on what it withholds name this version. */
const NVIDIA_HALVES = '615.71';

/** In words, why `matrixUnits` finds none. */
export function whyNoMatrices(adapter: MatrixAdapter): string {
  const { features, info } = adapter;
  if (!features.has(MATRIX_FEATURE) || !features.has('subgroups'))
    return `it does not offer ${MATRIX_FEATURE}, which is an experiment: Node has it where the driver has matrix units, Chromium behind --enable-unsafe-webgpu, and other hosts have not`;
  const listed = configsOf(adapter).map(
    ({ componentType, resultComponentType, M, N, K }) => `${componentType} to ${resultComponentType} at ${M} x ${N} x ${K}`,
  );
  if (features.has('shader-f16') || !listed.some((config) => config.startsWith('f16 to f32')))
    return `none of its products has sums in f32 and a size that fits (${listed.join(', ') || 'it lists none'}; subgroups of ${info.subgroupMinSize} to ${info.subgroupMaxSize})`;
  const nvidia = /nvidia/i.test(info.vendor)
    ? `: Dawn withholds it on NVIDIA's drivers before ${NVIDIA_HALVES}, and this one is ${info.description || 'not told'}`
    : '';
  return `its matrix units multiply halves, and it does not offer shader-f16${nvidia}`;
}
