/**
 * The UNet's deep features of step caching, on the device: within the program where a latent is sampled whole, in a buffer beside it for every window
 * otherwise. They go from and to the program by copies on the device.
 */
import { UserError } from '../core/errors.ts';
import type { PlanOptions } from '../core/plan.ts';
import { watch } from '../core/scope.ts';
import { storageBytes } from '../core/shader.ts';
import { sizeOf, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { Held, heldBytes } from '../gpu/held.ts';
import { compile, type Program, type RunOptions } from '../gpu/program.ts';
import type { Unet } from '../models/unet.ts';

/** The name of the result that is reused. */
const DEEP = 'deep';

/** The graph that `build` makes, with deep features among its results where steps are `cached`; and the result of every module in it. */
export function tracedDenoiser(unet: Unet, cached: boolean, build: () => Record<string, Tensor>) {
  const { result, results } = watch(build);
  const graph = cached ? { ...result, [DEEP]: results.get(unet.deepest) as Tensor } : result;
  return { graph, results };
}

/** Options to plan such a graph with. */
export const reusedWhere = (cached: boolean): PlanOptions => (cached ? { reused: DEEP } : {});

const featureBytes = ({ dtype, shape }: Tensor): number => storageBytes(dtype, sizeOf(shape));

/** GPU memory beside the program of a traced graph for the features of `windows` windows, in bytes. */
function besideBytes(graph: Record<string, Tensor>, windows: number): number {
  return windows > 1 ? heldBytes(windows * featureBytes(graph[DEEP])) : 0;
}

/**
 * What step caching adds to a plan of a traced graph that runs `perStep` times in every window and step, of which `reuses` tells whether it takes the
 * features over.
 */
export function cachedRuns(graph: Record<string, Tensor>, windows: number, reuses: readonly boolean[], perStep = 1) {
  const besideIs = `the deep features of ${windows} windows, which step caching (the option cache) keeps`;
  return {
    reusing: reuses.filter(Boolean).length * windows * perStep,
    beside: besideBytes(graph, windows),
    ...(windows > 1 ? { besideIs } : {}),
  };
}

/**
 * Compiles a traced graph, with room for the features of `windows` windows; 0 where steps are not cached. Throws as `compile`, and DeviceError when memory
 * does not suffice for the features.
 */
export async function compileDenoiser<Names extends string>(
  device: Device,
  graph: Record<string, Tensor>,
  windows: number,
  signal?: AbortSignal,
): Promise<{ program: Program<Names>; features: DeepFeatures | null }> {
  const outputs = graph as Record<Names, Tensor>;
  if (windows === 0) return { program: await compile(device, outputs, signal), features: null };
  const beside = besideBytes(graph, windows);
  const program = await compile(device, outputs, signal, { reused: DEEP, beside });
  let features: DeepFeatures | null = null;
  try {
    await device.guard(`placing ${beside} bytes of deep features`, () => {
      features = new DeepFeatures(device, featureBytes(graph[DEEP]), windows);
    });
    return { program, features };
  } catch (error) {
    (features as DeepFeatures | null)?.release();
    program.dispose();
    throw error;
  }
}

export class DeepFeatures {
  private readonly bytes: number;
  private readonly held: Held | null;
  private readonly filled = new Set<number>();

  /** Of `bytes` each, for a program that is asked in `windows` windows. To be made within `device.guard`. */
  constructor(device: Device, bytes: number, windows: number) {
    this.bytes = bytes;
    this.held = windows > 1 ? new Held(device, 'deep features', windows * bytes) : null;
  }

  /** How the program is to run for a window: whole, or with what it computed there last. Throws UserError where that was nothing. */
  runOptions(window: number, reuse: boolean): RunOptions {
    if (reuse && !this.filled.has(window))
      throw new UserError('There are no deep features yet that could be reused: the first evaluation is whole.');
    this.filled.add(window);
    const transfers = this.held?.transfers(DEEP, 0, window * this.bytes, this.bytes) ?? [];
    return reuse ? { reuse, from: transfers } : { to: transfers };
  }

  /** Frees what lies beside the program. */
  release(): void {
    this.held?.release();
  }
}
