/**
 * Time per dispatch. Where the adapter has timestamp queries every dispatch gets a compute pass of its own with a time at each end; elsewhere
 * only counts, floating-point operations and bytes are known.
 */
import type { PlannedDispatch } from '../core/dispatch.ts';
import type { Buffers } from './buffers.ts';
import type { Work } from './pace.ts';
import { GPU_COPY_DST, GPU_COPY_SRC, GPU_MAP_READ, GPU_QUERY_RESOLVE } from './usage.ts';

interface EncodableStep {
  pipeline: GPUComputePipeline;
  group: GPUBindGroup;
  x: number;
  y: number;
  dispatch: PlannedDispatch;
  /** What is done of the dispatch, which may be divided. */
  work: Work;
}

/** One dispatch as it ran. */
export interface DispatchTime {
  dispatch: PlannedDispatch;
  /** Its floating-point operations and bytes; of a dispatch that was divided, this portion's. */
  work: Work;
  /** Nanoseconds of the GPU's clock at both ends; null without timestamp queries. */
  begin: bigint | null;
  end: bigint | null;
}

export interface KernelTime {
  kernel: string;
  dispatches: number;
  /** Milliseconds on the GPU; NaN without timestamp queries. */
  ms: number;
  /**
   * Milliseconds of the first dispatch beyond what its work takes at the best rate of the others, all of it where there are no others: what a driver
   * that compiles at first use takes for compiling. NaN without timestamp queries.
   */
  firstMs: number;
  /** Floating-point operations computed, in thousand millions, and bytes of operands, in MB. */
  gflop: number;
  mb: number;
}

/** WebGPU allows at most 4096 queries a set. */
const MOST_QUERIES = 4096;

export class Profile {
  /** In the order in which they ran. */
  readonly dispatches: DispatchTime[] = [];
  private pending: { steps: EncodableStep[]; set: GPUQuerySet; resolved: GPUBuffer; read: GPUBuffer }[] = [];

  /** Records `steps` into `encoder`, one pass each. Called by Program. */
  encode(device: Buffers, encoder: GPUCommandEncoder, steps: EncodableStep[]): void {
    const timed = device.facts.features.has('timestamp-query');
    for (let from = 0; from < steps.length; from += MOST_QUERIES / 2) {
      const chunk = steps.slice(from, from + MOST_QUERIES / 2);
      const set = timed ? device.gpu.createQuerySet({ type: 'timestamp', count: chunk.length * 2 }) : null;
      chunk.forEach(({ pipeline, group, x, y }, i) => {
        const writes = set ? { timestampWrites: { querySet: set, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 } } : {};
        const pass = encoder.beginComputePass(writes);
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(x, y);
        pass.end();
      });
      if (!set) {
        this.add(chunk, null);
        continue;
      }
      const bytes = chunk.length * 16;
      const resolved = device.buffer('timestamps', bytes, GPU_QUERY_RESOLVE | GPU_COPY_SRC);
      const read = device.buffer('timestamps read', bytes, GPU_MAP_READ | GPU_COPY_DST);
      encoder.resolveQuerySet(set, 0, chunk.length * 2, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, read, 0, bytes);
      this.pending.push({ steps: chunk, set, resolved, read });
    }
  }

  /** Reads the times of the run just finished. Called by Program. */
  async collect(device: Buffers): Promise<void> {
    for (const { steps, set, resolved, read } of this.pending.splice(0)) {
      await device.settle(read.mapAsync(1));
      this.add(steps, new BigUint64Array(read.getMappedRange().slice(0)));
      device.release(read);
      device.release(resolved);
      set.destroy();
    }
  }

  /** Of every kernel, KernelTime.firstMs. */
  private firsts(): Map<string, number> {
    const all = new Map<string, DispatchTime[]>();
    for (const each of this.dispatches) {
      const { name } = each.dispatch.shader;
      const known = all.get(name);
      if (known) known.push(each);
      else all.set(name, [each]);
    }
    return new Map(
      [...all].map(([kernel, [first, ...others]]) => {
        const rates = others.map((other) => msOf(other) / amountOf(other));
        const usual = rates.length === 0 ? 0 : Math.min(...rates) * amountOf(first);
        return [kernel, Math.max(0, msOf(first) - usual)];
      }),
    );
  }

  private add(steps: EncodableStep[], times: BigUint64Array | null): void {
    steps.forEach(({ dispatch, work }, i) => {
      this.dispatches.push({ dispatch, work, begin: times?.[2 * i] ?? null, end: times?.[2 * i + 1] ?? null });
    });
  }

  /** Sums by kernel, slowest first. */
  kernels(): KernelTime[] {
    const byKernel = new Map<string, KernelTime>();
    const firsts = this.firsts();
    for (const { dispatch, work, begin, end } of this.dispatches) {
      const kernel = dispatch.shader.name;
      const entry = byKernel.get(kernel) ?? { kernel, dispatches: 0, ms: 0, firstMs: firsts.get(kernel)!, gflop: 0, mb: 0 };
      entry.dispatches++;
      entry.ms += msOf({ begin, end });
      entry.gflop += work.flops / 1e9;
      entry.mb += work.bytes / 1e6;
      byKernel.set(kernel, entry);
    }
    return [...byKernel.values()].sort((a, b) => b.ms - a.ms || b.dispatches - a.dispatches);
  }
}

const msOf = ({ begin, end }: Pick<DispatchTime, 'begin' | 'end'>): number =>
  begin === null || end === null ? Number.NaN : Number(end - begin) / 1e6;

/** Operations, or bytes of what computes none. */
const amountOf = ({ work }: DispatchTime): number => work.flops || work.bytes;
