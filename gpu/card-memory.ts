/**
 * How much memory of a GPU may be used. WebGPU does not tell, and an operating system that gives more than there is moves memory to and fro, slower
 * than weights that pass through. So what the smallest of its kind has is taken, or what a trial finds where trials can tell.
 */
import type { AdapterFacts, Machine } from '../core/adapter.ts';
import { GPU_COPY_DST, GPU_STORAGE } from './usage.ts';

export const UNKNOWN_MACHINE: Machine = { system: null, memory: null };

export interface CardMemory {
  /** Bytes that all buffers together may take. */
  readonly bytes: number;
  /** Part of a sentence for a person: where the number comes from. */
  readonly why: string;
  /** Whether a trial may tell more: where memory that there is not is refused, and a refusal harms nobody. */
  readonly mayTry: boolean;
}

const GIB = 2 ** 30;
/** Of a card with memory of its own, what the screen and other programs take. */
const OTHERS = GIB;
/** Where nothing is known: cards and machines that WebGPU runs on have more. */
const LITTLE = 2 * GIB;
/** iOS ends a page above 1.5 GB, and has no buffer above 1 GiB (WebKit, bug 49472 of its pull requests). */
const [IOS, IOS_BUFFER] = [1e9, GIB];
/** Share of the machine's memory where it is the GPU's too, and where the system ends programs that take much of it. */
const [SHARED, ANDROID] = [1 / 2, 1 / 4];
/** Memory of the smallest machine of Apple's own processors. */
const SMALLEST_APPLE = 8 * GIB;

/** Who made it, by what adapters tell: a name or a PCI number. */
const MAKERS: readonly (readonly [string, RegExp])[] = [
  ['NVIDIA', /nvidia|geforce|quadro|tesla|\b4318\b|0x10de/],
  ['AMD', /\bamd\b|radeon|\b4098\b|0x1002/],
  ['Apple', /apple|\b4203\b|0x106b/],
  ['Intel', /intel|\b32902\b|0x8086/],
  ['mobile', /qualcomm|adreno|\barm\b|mali|img-tec|powervr|samsung|xclipse|broadcom/],
];

/** GiB of the smallest common card of a generation, by architecture or, where that is not told, by name. */
const SMALLEST: Readonly<Record<string, readonly (readonly [RegExp, number])[]>> = {
  NVIDIA: [
    [/blackwell|rtx 50\d\d|hopper|h[12]00/, 8],
    [/lovelace|rtx 40\d\d/, 6],
    [/ampere|turing|rtx [23]0\d\d|gtx 16\d\d/, 4],
    [/./, 2],
  ],
  AMD: [
    [/rdna-4|rx 90\d\d/, 8],
    [/rdna|rx [5-7]\d\d\d/, 4],
    [/./, 2],
  ],
  Intel: [
    [/xe-\dhpg|arc.* b\d\d\d/, 8],
    [/12-?hp|arc.* a\d\d\d/, 4],
  ],
};

/** What may be used of the memory of an adapter, by its facts, the limits it offers and its machine. Allocates nothing. */
export function estimateMemory(facts: AdapterFacts, { maxBufferSize }: { maxBufferSize: number }, machine: Machine): CardMemory {
  const text = `${facts.vendor} ${facts.architecture} ${facts.device} ${facts.description}`.toLowerCase();
  const maker = MAKERS.find(([, pattern]) => pattern.test(text))?.[0];
  const { system, memory } = machine;
  const told = (bytes: number, why: string, mayTry = false): CardMemory => ({ bytes: Math.floor(bytes), why, mayTry });
  const shared = (all: number, share: number, why: string) => told(Math.max(GIB / 2, share * all), why);
  if (facts.software) return shared(memory ?? 2 * LITTLE, SHARED, "it is the machine's, and half of that is taken");
  if (system === 'ios' || (maker === 'Apple' && maxBufferSize <= IOS_BUFFER)) return told(IOS, 'iOS ends a page that takes 1.5 GB');
  if (system === 'android') return shared(memory ?? 2 * LITTLE, ANDROID, 'Android ends programs that take much of the memory');
  if (maker === 'Apple') return shared(memory ?? SMALLEST_APPLE, SHARED, "the GPU shares the machine's, and half of that is taken");
  const mayTry = system === 'linux';
  const smallest = SMALLEST[maker ?? '']?.find(([pattern]) => pattern.test(text))?.[1];
  if (smallest) return told(smallest * GIB - OTHERS, `the smallest such card has ${smallest} GiB, and 1 is left to others`, mayTry);
  if (maker) return shared(memory ?? 2 * LITTLE, SHARED, "the GPU shares the machine's, and half of that is taken");
  return told(Math.min(LITTLE, 2 * maxBufferSize), 'nothing tells more', mayTry);
}

/** Bytes of a buffer of a trial. */
const STEP = 2 ** 28;
/** Of what a trial was given, what is taken: drivers need some themselves. */
const TAKEN = 0.8;

/**
 * What a trial finds: buffers are made until one is refused or `wanted` bytes may be used, and all are freed at once. The estimate itself where a
 * trial would tell nothing. `settle` waits for a promise of the device's; throws what it throws.
 */
export async function triedMemory(
  gpu: GPUDevice,
  settle: <T>(promise: Promise<T>) => Promise<T>,
  card: CardMemory,
  wanted: number,
): Promise<CardMemory> {
  if (!card.mayTry || card.bytes >= wanted) return card;
  const step = Math.min(STEP, gpu.limits.maxBufferSize);
  const buffers: GPUBuffer[] = [];
  let given = 0;
  try {
    while (TAKEN * given < wanted) {
      gpu.pushErrorScope('out-of-memory');
      buffers.push(gpu.createBuffer({ label: 'trial', size: step, usage: GPU_STORAGE | GPU_COPY_DST }));
      if (await settle(gpu.popErrorScope())) break;
      given += step;
    }
  } finally {
    for (const buffer of buffers) buffer.destroy();
  }
  gpu.queue.submit([]);
  await settle(gpu.queue.onSubmittedWorkDone());
  const bytes = Math.floor(Math.min(wanted, TAKEN * Math.max(step, given)));
  return { bytes, why: `${(given / 1e9).toFixed(1)} GB were given in a trial`, mayTry: false };
}
