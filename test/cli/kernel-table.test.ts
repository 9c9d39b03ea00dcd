/** What --profile tells of compiling. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { firstUseMs, kernelTable } from '../../cli/kernel-table.ts';
import type { PlannedDispatch } from '../../core/dispatch.ts';
import { Profile } from '../../gpu/profiler.ts';

const dispatch = (name: string) => ({ shader: { name } }) as PlannedDispatch;
const device = { pipelineCount: 3, compileMs: 200 };

test('the first dispatch of a kernel took so much longer than the others, by their work', () => {
  const profile = new Profile();
  const dispatched = (name: string, flops: number, bytes: number, ms: number) =>
    profile.dispatches.push({ dispatch: dispatch(name), work: { flops, bytes }, begin: 5n, end: 5n + BigInt(ms * 1e6) });
  dispatched('matmul', 100, 7, 500);
  dispatched('matmul', 50, 7, 10);
  dispatched('matmul', 50, 7, 30);
  dispatched('copy', 0, 64, 40);
  dispatched('copy', 0, 32, 20);
  dispatched('once', 0, 64, 9);
  const kernels = profile.kernels();
  assert.equal(Object.fromEntries(kernels.map(({ kernel, firstMs }) => [kernel, firstMs])), { matmul: 480, copy: 0, once: 9 });
  assert.is(firstUseMs(kernels), 489);
  const table = kernelTable(kernels, device);
  assert.match(table, /matmul +3 +540\.0 +480\.0/);
  assert.match(table, /3 pipelines, compiled in 0\.2 s, and in 0\.5 s when they were first used; 609 ms in kernels/);
});

test('without times nothing is told of first uses', () => {
  const profile = new Profile();
  profile.dispatches.push({ dispatch: dispatch('copy'), work: { flops: 0, bytes: 64 }, begin: null, end: null });
  assert.match(kernelTable(profile.kernels(), device), /3 pipelines, compiled in 0\.2 s; NaN ms in kernels/);
});

test.run();
