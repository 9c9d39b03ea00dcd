/**
 * Runs every golden case of a folder that this program has an operation for, and says of each what was found against what is accepted.
 * What is not run is listed with its reason, never left out.
 */
import { isBlocks } from '../core/blocks.ts';
import { UserError } from '../core/errors.ts';
import type { Device } from '../gpu/device.ts';
import type { WeightDType } from '../weights/attach.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import { cleanerOperations } from './cleaner-ops.ts';
import { WatchedCase } from './config-keys.ts';
import { type Operation, VerifyContext } from './context.ts';
import { diffbirOperations } from './diffbir-ops.ts';
import { diffbirPipelineOperations } from './diffbir-pipeline-ops.ts';
import { type CaseEntry, type Comparison, compare, GoldenFolder, type OpenFile } from './golden.ts';
import { gradientOperations } from './gradient-ops.ts';
import { hostOperations } from './host-ops.ts';
import { loraOperations } from './lora-ops.ts';
import { networkOperations } from './network-ops.ts';
import { pipelineOperations } from './pipeline-ops.ts';
import { scheduleOperations } from './schedule-ops.ts';
import { tiledOperations } from './tiled-ops.ts';
import { trainOperations } from './train-ops.ts';

export const OPERATIONS: Readonly<Record<string, Operation>> = {
  ...hostOperations,
  ...networkOperations,
  ...pipelineOperations,
  ...tiledOperations,
  ...gradientOperations,
  ...loraOperations,
  ...trainOperations,
  ...scheduleOperations,
  ...cleanerOperations,
  ...diffbirOperations,
  ...diffbirPipelineOperations,
};

export interface OutputComparison extends Comparison {
  /** An intermediate result. */
  stage: boolean;
}

export interface CaseReport {
  id: string;
  component: string;
  status: 'passed' | 'failed' | 'skipped';
  /** Why it was skipped, or what stopped it. */
  reason?: string;
  /** The outputs that were compared, the worst first. */
  comparisons: OutputComparison[];
  /** Intermediate results which the operation does not give. */
  notCompared: string[];
  seconds: number;
}

export interface VerifyReport {
  cases: CaseReport[];
  passed: number;
  failed: number;
  skipped: number;
}

export interface VerifyOptions {
  /** Finds a file of the folder by name; throws UserError when there is none. */
  open: OpenFile;
  device: Device;
  /** Only cases whose id, component or operation contains this text. */
  filter?: string;
  /**
   * Also the cases of models without a configuration of their own: they have the published sizes, about 10 GB of weights. A checkpoint is read instead of
   * making the weights, and closed by the caller.
   */
  full?: boolean | Checkpoint;
  /** How matrices and convolutions of whole models are stored; with q8 and q4 their cases are judged by ROUNDED. */
  weights?: WeightDType;
  /** Called after every case, and awaited. */
  onCase?: (report: CaseReport) => void | Promise<void>;
}

/**
 * Throws UserError when the folder has no readable index.json. A case that cannot be run counts as failed. Every buffer that was made,
 * weights included, is freed before this returns.
 */
export async function verifyFolder({ open, device, filter = '', full = false, weights, onCase }: VerifyOptions): Promise<VerifyReport> {
  const folder = await GoldenFolder.open(open);
  const context = new VerifyContext(folder, device, { weights, ...(typeof full === 'boolean' ? {} : { published: full }) });
  const report: VerifyReport = { cases: [], passed: 0, failed: 0, skipped: 0 };
  try {
    for (const entry of folder.index.cases) {
      if (![entry.id, entry.component, entry.op].some((text) => text.includes(filter))) continue;
      const reason = await whySkipped(entry, folder, full !== false);
      const result: CaseReport = reason
        ? { id: entry.id, component: entry.component, status: 'skipped', reason, comparisons: [], notCompared: [], seconds: 0 }
        : await runCase(entry, context);
      report.cases.push(result);
      report[result.status]++;
      await onCase?.(result);
    }
  } finally {
    await context.dispose();
    await folder.close();
  }
  return report;
}

/** Why a case is not run; null if it is. A file that belongs to the core and is missing makes its cases fail instead. */
async function whySkipped({ op, file, core, weights }: CaseEntry, folder: GoldenFolder, full: boolean): Promise<string | null> {
  if (!(op in OPERATIONS)) return `no operation ${op}`;
  if (!core && !(await folder.has(file))) return `the folder has no ${file}`;
  if (weights?.model && !folder.index.models[weights.model]?.config && !full)
    return 'a model of the published size, whose checkpoints were not given';
  return null;
}

/**
 * What is accepted of models whose weights are rounded to blocks: the root mean square of the error as a share of each result's spread. Rounding alone is
 * 0.53 % of every weight matrix for q8 and 8.1 % for q4, of independent signs (core/blocks.ts); through some dozens of layers with synthetic weights,
 * which no training has made tolerant, it grows to at most 3.2 % and 44 % of any result of the small models. Wrong blocks give more than 100 %.
 */
const ROUNDED = { q8: 0.05, q4: 0.5 };

/** Runs one case and compares all it gives. Never throws: what stops a case is its failure. */
export async function runCase(entry: CaseEntry, context: VerifyContext, operations = OPERATIONS): Promise<CaseReport> {
  const begun = performance.now();
  const comparisons: OutputComparison[] = [];
  const notCompared: string[] = [];
  const missing: string[] = [];
  let reason: string | undefined;
  const { weights } = context.choices;
  const share = entry.weights?.model && weights && isBlocks(weights) ? ROUNDED[weights] : undefined;
  const watched = new WatchedCase(entry);
  try {
    const results = await operations[entry.op](watched.entry, context);
    const complaint = watched.complaint();
    if (complaint) throw new UserError(complaint);
    for (const [output, { stage = false }] of Object.entries(entry.outputs)) {
      if (results[output]) comparisons.push({ ...(await compare(context.folder, entry, output, results[output], share)), stage });
      else (stage ? notCompared : missing).push(output);
    }
    if (missing.length) reason = `the operation ${entry.op} gives no ${missing.join(', ')}`;
  } catch (error) {
    reason = (error as Error).message;
  }
  // NaN is the worst.
  comparisons.sort((a, b) => (Number.isNaN(b.ratio) ? 1 : Number.isNaN(a.ratio) ? -1 : b.ratio - a.ratio));
  const passed = reason === undefined && comparisons.length > 0 && comparisons.every(({ ratio }) => ratio <= 1);
  return {
    id: entry.id,
    component: entry.component,
    status: passed ? 'passed' : 'failed',
    ...(reason === undefined ? {} : { reason }),
    comparisons,
    notCompared,
    seconds: (performance.now() - begun) / 1000,
  };
}
