/** Golden cases: recorded inputs and outputs of the reference program, in fixtures/golden. Comparing and reading are verify/'s. */
import type { Device } from '../../core/device.ts';
import { VerifyContext } from '../../verify/context.ts';
import { type CaseEntry, compare, GoldenFolder, type OpenFile } from '../../verify/golden.ts';
import { type CaseReport, runCase } from '../../verify/verify.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import type { Safetensors } from '../../weights/safetensors.ts';
import { fixture } from './fixtures.ts';

export type { CaseEntry as GoldenCase };

export const openGolden: OpenFile = async (name) => bytesSource(name, await fixture(`golden/${name}`));

let opened: Promise<GoldenFolder> | undefined;

/** The fixtures' folder, opened once. */
export function goldenFolder(): Promise<GoldenFolder> {
  opened ??= GoldenFolder.open(openGolden);
  return opened;
}

/** All cases of a component. Throws if there is none: a test over no cases proves nothing. */
export async function goldenCases(component: string): Promise<CaseEntry[]> {
  const found = (await goldenFolder()).index.cases.filter((each) => each.component === component);
  if (found.length === 0) throw new Error(`index.json has no case of component "${component}"`);
  return found;
}

/** A golden file, read once. */
export async function goldenFile(name: string): Promise<Safetensors> {
  return (await goldenFolder()).file(name);
}

export async function goldenContext(device: Device): Promise<VerifyContext> {
  return new VerifyContext(await goldenFolder(), device);
}

/** Throws unless `actual` is the expected tensor within the case's tolerance. */
export async function checkGolden(entry: CaseEntry, output: string, actual: ArrayLike<number>): Promise<void> {
  const { error, accepted, ratio } = await compare(await goldenFolder(), entry, output, actual);
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
