/**
 * Weights on the GPU. A program's are loaded when it is made and stay when it is gone, until the room is needed; those of a program too large for
 * the budget pass through slabs at every run, the next segment's while the GPU computes the current one. Values are the same bytes either way.
 */

import type { PlannedDispatch } from '../core/dispatch.ts';
import { parameters } from '../core/module.ts';
import { SCRATCH_BYTES, type WeightPiece } from '../core/parameter-source.ts';
import { type Placement, readBy, type Segment, WeightLedger } from '../core/placement.ts';
import type { Plan } from '../core/plan.ts';
import type { TensorData } from '../core/shape.ts';
import { packed } from '../core/stored-order.ts';
import type { Parameter } from '../core/tensor.ts';
import type { Buffers } from './buffers.ts';
import { UploadCheck } from './upload-check.ts';
import { GPU_COPY_DST, GPU_COPY_SRC, GPU_STORAGE } from './usage.ts';

/** Pieces of weights that are read at a time. */
const READERS = 3;
/** Bytes that the driver may hold on their way to the GPU. */
const IN_FLIGHT = 2 ** 26;

export class Residency {
  private readonly device: Buffers;
  private readonly ledger = new WeightLedger();
  private readonly buffers = new Map<Parameter, GPUBuffer>();
  /** How often weights were given other values since. */
  uploads = 0;

  constructor(device: Buffers) {
    this.device = device;
  }

  /** Bytes of GPU buffers that there may be at once; infinity for no limit. Counts for programs made from now on. */
  get budget(): number {
    return this.ledger.budget;
  }

  /** Bytes of GPU buffers that cannot leave: all but the weights that nobody uses. */
  get taken(): number {
    return this.device.memory.bytes - this.ledger.idle;
  }

  set budget(bytes: number) {
    this.ledger.budget = bytes;
  }

  /**
   * Makes room for a program, its weights and `beside` bytes of other buffers, and loads the weights that stay. To be called when nothing else is being placed. Throws UserError when
   * the budget does not suffice or a weight has no values, the signal's reason when aborted; what was there before is then still there or idle.
   */
  async open(plan: Plan, signal?: AbortSignal, beside = 0): Promise<ProgramWeights> {
    const { device, ledger } = this;
    const { placement, leaving, ...admitted } = ledger.admit(
      plan,
      device.memory.bytes - ledger.bytes + beside,
      device.gpu.limits.minStorageBufferOffsetAlignment,
      (weight) => this.buffers.has(weight) && !ledger.has(weight), // filled by hand, as in training
    );
    for (const weight of leaving) this.release(weight);
    if (leaving.length > 0) await this.freed();
    const weights = new ProgramWeights(this, device, admitted.plan, placement, () => ledger.leave(placement));
    try {
      await weights.load(signal);
    } catch (error) {
      weights.discard();
      throw error;
    }
    return weights;
  }

  /** Drivers free a buffer when the GPU is done with what was submitted before; what comes next would lie beside it. */
  private freed(): Promise<unknown> {
    const { queue } = this.device.gpu;
    queue.submit([]);
    return this.device.settle(queue.onSubmittedWorkDone()).catch(() => undefined); // a lost device, which the guard tells
  }

  /** The buffer that holds a weight; undefined while it is not on the GPU as a whole. */
  bufferOf(weight: Parameter): GPUBuffer | undefined {
    return this.buffers.get(weight);
  }

  /** The weight's buffer, made if there is none. */
  place(weight: Parameter): GPUBuffer {
    let buffer = this.buffers.get(weight);
    if (!buffer) {
      buffer = this.device.buffer(weight.name, weight.bytes, GPU_STORAGE | GPU_COPY_DST | GPU_COPY_SRC);
      this.buffers.set(weight, buffer);
    }
    return buffer;
  }

  /**
   * Fills a weight's buffer from values in the checkpoint's order: f16 bit patterns in Uint16Array for f16, which may be given for q8 and q4 too, else
   * Float32Array. What is stored in blocks is rounded here. A weight may lie in another, from a byte on. Throws ShapeError for other counts and types.
   */
  upload(weight: Parameter, values: TensorData, whole = weight, offset = 0): void {
    const stored = packed(values, weight);
    this.device.gpu.queue.writeBuffer(this.place(whole), offset, stored);
    this.uploads++;
  }

  /** Frees a weight's buffer, if it has one. */
  release(weight: Parameter): void {
    this.ledger.drop(weight);
    const buffer = this.buffers.get(weight);
    if (buffer) this.device.release(buffer);
    this.buffers.delete(weight);
  }

  /** Frees the buffers of every weight below `root`, a network or a part of one. */
  releaseAll(root: object): void {
    for (const [, weight] of parameters(root)) this.release(weight);
  }
}

/** The weights of one program. */
export class ProgramWeights {
  /** The plan as it fits. */
  readonly plan: Plan;
  readonly placement: Placement;
  private readonly residency: Residency;
  private readonly device: Buffers;
  private readonly slabs: GPUBuffer[];
  private readonly uploads: Uploads;
  private readonly onClose: () => void;
  private readonly loaded: Parameter[];
  private closed = false;

  constructor(residency: Residency, device: Buffers, plan: Plan, placement: Placement, onClose: () => void) {
    this.residency = residency;
    this.device = device;
    this.plan = plan;
    this.placement = placement;
    this.onClose = onClose;
    this.uploads = new Uploads(device);
    this.loaded = [...placement.resident].filter((weight) => !residency.bufferOf(weight));
    this.slabs = placement.slabs.map((bytes, i) => device.buffer(`weights ${i}`, bytes, GPU_STORAGE | GPU_COPY_DST));
  }

  /** Creates and fills the buffers of weights that stay and are not there yet, and looks at some of them. */
  async load(signal?: AbortSignal): Promise<void> {
    const uploads = this.loaded.flatMap((weight) =>
      weight.pieces().map((piece) => ({ piece, buffer: this.residency.place(weight), offset: 0 })),
    );
    const check = new UploadCheck(this.device, uploads.length);
    await this.uploads.write(uploads, signal, check);
    await check.done();
  }

  /** Where a dispatch finds a weight. */
  at(weight: Parameter, dispatch: number): { buffer: GPUBuffer; offset: number } {
    const index = this.placement.segments.findIndex(({ to }) => dispatch < to);
    const offset = this.placement.segments[index]?.places.get(weight);
    return offset === undefined ? { buffer: this.residency.bufferOf(weight)!, offset: 0 } : { buffer: this.slabOf(index), offset };
  }

  /**
   * Brings the weights of a segment that pass through, those alone that `computed` reads where not all of it runs; the commands of the segments before it
   * must be submitted.
   */
  fill(segment: Segment, computed: ReadonlySet<PlannedDispatch> | null, signal?: AbortSignal): Promise<void> {
    const buffer = this.slabOf(this.placement.segments.indexOf(segment));
    const read = computed && new Set([...computed].flatMap(readBy));
    const jobs = [...segment.places]
      .filter(([weight]) => read?.has(weight) ?? true)
      .flatMap(([weight, offset]) => weight.pieces().map((piece) => ({ piece, buffer, offset })));
    return this.uploads.write(jobs, signal);
  }

  private slabOf(index: number): GPUBuffer {
    return this.slabs[index % this.slabs.length];
  }

  /** Frees the slabs; the other weights stay until their room is needed. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const slab of this.slabs) this.device.release(slab);
    this.onClose();
  }

  /** The same, and frees what was loaded for it, which is not whole when that failed. */
  discard(): void {
    this.close();
    for (const weight of this.loaded) this.residency.release(weight);
  }
}

interface Upload {
  piece: WeightPiece;
  buffer: GPUBuffer;
  /** Where the weight begins in the buffer. */
  offset: number;
}

/** Pieces on their way from files to buffers: several are read at a time, and the driver holds a bounded number of bytes. */
class Uploads {
  private readonly device: Buffers;
  private readonly scratches: Uint8Array<ArrayBuffer>[] = [];
  /** Settle when the GPU has taken what was written before. */
  private readonly fences: Promise<void>[] = [];
  private inFlight = 0;
  private unfenced = 0;

  constructor(device: Buffers) {
    this.device = device;
  }

  /** Writes all pieces, behind what was submitted so far. Throws what a read throws, the signal's reason, or the device's failure. */
  async write(uploads: Upload[], signal?: AbortSignal, check?: UploadCheck): Promise<void> {
    const queue = uploads.values();
    let failed = false;
    const read = async () => {
      const scratch = this.scratches.pop() ?? new Uint8Array(SCRATCH_BYTES);
      try {
        for (const { piece, buffer, offset } of queue) {
          if (failed) break;
          signal?.throwIfAborted();
          const bytes = wholeWords(await piece.read(scratch));
          while (this.fences.length > 0 && this.inFlight + bytes.length > IN_FLIGHT) await this.fences[0];
          this.device.check();
          this.device.gpu.queue.writeBuffer(buffer, offset + piece.offset, bytes);
          check?.wrote(buffer, offset + piece.offset, bytes);
          this.wrote(bytes.length);
        }
      } catch (error) {
        failed = true;
        throw error;
      } finally {
        this.scratches.push(scratch);
      }
    };
    const results = await Promise.allSettled(Array.from({ length: Math.min(READERS, uploads.length) }, read));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  private wrote(bytes: number): void {
    const { device } = this;
    this.inFlight += bytes;
    this.unfenced += bytes;
    if (this.unfenced < IN_FLIGHT / 4) return;
    const fenced = this.unfenced;
    this.unfenced = 0;
    device.gpu.queue.submit([]);
    const fence = device
      .settle(device.gpu.queue.onSubmittedWorkDone())
      .catch(() => undefined) // a lost device, which the next check tells
      .then(() => {
        this.inFlight -= fenced;
        this.fences.splice(this.fences.indexOf(fence), 1);
      });
    this.fences.push(fence);
  }
}

function wholeWords(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  if (bytes.length % 4 === 0) return bytes as Uint8Array<ArrayBuffer>;
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  return padded;
}
