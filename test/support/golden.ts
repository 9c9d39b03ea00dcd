/** Golden cases: recorded inputs and outputs of the reference program, in fixtures/golden. Comparing and reading are verify/'s. */
import type { Device } from '../../gpu/device.ts';
import { VerifyContext } from '../../verify/context.ts';
import { type CaseEntry, compare, GoldenFolder, type OpenFile } from '../../verify/golden.ts';
import { type CaseReport, runCase } from '../../verify/verify.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import type { Safetensors } from '../../weights/safetensors.ts';
import { fixture } from './fixtures.ts';

export type { CaseEntry as GoldenCase };

/** The sets of golden cases: SUPIR's and DiffBIR's. */
export type GoldenSet = 'golden' | 'diffbir';

const openIn =
  (set: GoldenSet): OpenFile =>
  async (name) =>
    bytesSource(name, await fixture(`${set}/${name}`));

export const openGolden: OpenFile = openIn('golden');

const opened = new Map<GoldenSet, Promise<GoldenFolder>>();

/** A set's folder, opened once. */
export function goldenFolder(set: GoldenSet = 'golden'): Promise<GoldenFolder> {
  let folder = opened.get(set);
  if (!folder) opened.set(set, (folder = GoldenFolder.open(openIn(set))));
  return folder;
}

/** All cases of a component. Throws if there is none: a test over no cases proves nothing. */
export async function goldenCases(component: string, set: GoldenSet = 'golden'): Promise<CaseEntry[]> {
  const found = (await goldenFolder(set)).index.cases.filter((each) => each.component === component);
  if (found.length === 0) throw new Error(`index.json has no case of component "${component}"`);
  return found;
}

/** A golden file, read once. */
export async function goldenFile(name: string, set: GoldenSet = 'golden'): Promise<Safetensors> {
  return (await goldenFolder(set)).file(name);
}

export async function goldenContext(device: Device, set: GoldenSet = 'golden'): Promise<VerifyContext> {
  return new VerifyContext(await goldenFolder(set), device);
}

/** Throws unless `actual` is the expected tensor within the case's tolerance. */
export async function checkGolden(entry: CaseEntry, output: string, actual: ArrayLike<number>, set: GoldenSet = 'golden'): Promise<void> {
  const { error, accepted, ratio } = await compare(await goldenFolder(set), entry, output, actual);
  if (!(ratio <= 1)) throw new Error(`${entry.id}, ${output}: off by ${error}, accepted ${accepted}`);
}

/** Runs a case through its operation; throws unless it passes, with all that is wrong. */
export async function passGolden(entry: CaseEntry, context: VerifyContext): Promise<CaseReport> {
  const report = await runCase(entry, context);
  if (report.status === 'passed') return report;
  const wrong = report.comparisons
    .filter(({ ratio }) => !(ratio <= 1))
    .map(({ output, error, accepted }) => `${output}: ${error} of ${accepted}`);
  throw new Error([report.reason, ...wrong].filter(Boolean).join('; '));
}
