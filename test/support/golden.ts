/** Golden cases: inputs and expected outputs of the reference program, listed in fixtures/golden/index.json. */
import { bytesSource } from '../../weights/byte-source.ts';
import { openSafetensors, type Safetensors } from '../../weights/safetensors.ts';
import { fixture, jsonFixture } from './fixtures.ts';

export interface GoldenOutput {
  /** Tensor in the case's file. */
  tensor: string;
  /** Accepted: |actual - expected| <= abs + rel |expected|, for every element. */
  abs: number;
  rel: number;
  /** Spread of the expected tensor. */
  std?: number;
  /** An intermediate result. */
  stage?: boolean;
  /** Only elements 0, step, 2 step ... along `dim` are stored. */
  select?: { dim: number; step: number };
  metric?: 'mean_abs';
}

export interface GoldenCase {
  id: string;
  file: string;
  component: string;
  op: string;
  // biome-ignore lint/suspicious/noExplicitAny: every operation has its own fields
  config: any;
  // biome-ignore lint/suspicious/noExplicitAny: module-local weights or parts of a manifest
  weights?: any;
  inputs: Record<string, string>;
  noise?: string[];
  outputs: Record<string, GoldenOutput>;
}

/** All cases of a component. Throws if there is none: a test over no cases proves nothing. */
export async function goldenCases(component: string): Promise<GoldenCase[]> {
  const { cases } = await jsonFixture<{ cases: GoldenCase[] }>('golden/index.json');
  const found = cases.filter((c) => c.component === component);
  if (found.length === 0) throw new Error(`index.json has no case of component "${component}"`);
  return found;
}

const files = new Map<string, Promise<Safetensors>>();

/** A golden file, read once. */
export function goldenFile(name: string): Promise<Safetensors> {
  let file = files.get(name);
  if (!file) {
    file = fixture(`golden/${name}`).then((bytes) => openSafetensors(bytesSource(name, bytes)));
    files.set(name, file);
  }
  return file;
}

/** Throws with the worst element unless `actual` is the expected tensor within the case's tolerance. Returns the largest difference. */
export async function checkGolden(c: GoldenCase, output: string, actual: ArrayLike<number>): Promise<number> {
  const { tensor, abs, rel, metric, select } = c.outputs[output];
  const expected = await (await goldenFile(c.file)).f64(tensor);
  const fail = (why: string): never => {
    throw new Error(`${c.id}, output ${output}: ${why}`);
  };
  if (metric || select) fail('is a selection or has its own metric; compare it by hand');
  if (actual.length !== expected.length) fail(`${actual.length} elements, expected ${expected.length}`);
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i] - expected[i]);
    if (!(difference <= abs + rel * Math.abs(expected[i])))
      fail(`element ${i} is ${actual[i]}, expected ${expected[i]} (abs ${abs}, rel ${rel})`);
    if (difference > worst) worst = difference;
  }
  return worst;
}
