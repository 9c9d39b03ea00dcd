/** The verifier itself: it passes what is within the tolerance, fails everything else, and says what it did not run. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { VerifyContext } from '../../verify/context.ts';
import { type CaseEntry, compareLevels, type ExpectedOutput, GoldenFolder, type OpenFile } from '../../verify/golden.ts';
import { runCase, verifyFolder } from '../../verify/verify.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { testDevice } from '../support/device.ts';
import { goldenCases, goldenContext, openGolden } from '../support/golden.ts';

const GOLDEN = [1, -2, 3, -4, 5, -6];

function makeCase(output: Partial<ExpectedOutput> = {}, entry: Partial<CaseEntry> = {}): CaseEntry {
  const outputs = { y: { tensor: 'y', abs: 0.01, rel: 0.001, ...output } };
  return { id: 'made/up', file: 'made.safetensors', component: 'made', op: 'made', core: true, inputs: {}, outputs, ...entry };
}

/** A folder with one file, that holds y (1, 3, 2) = GOLDEN. */
function openMade(cases: CaseEntry[]): OpenFile {
  const files: Record<string, Uint8Array> = {
    'index.json': new TextEncoder().encode(JSON.stringify({ models: {}, local: { salt: 0, gains: {} }, cases })),
    'made.safetensors': encodeSafetensors([['y', { dtype: 'F32', shape: [1, 3, 2], data: Float32Array.from(GOLDEN) }]]),
  };
  return async (name) => {
    if (!files[name]) throw new UserError(`no ${name}`);
    return bytesSource(name, files[name]);
  };
}

async function verdict(results: Record<string, ArrayLike<number>>, output: Partial<ExpectedOutput> = {}) {
  const entry = makeCase(output);
  const context = new VerifyContext(await GoldenFolder.open(openMade([entry])), await testDevice());
  return runCase(entry, context, { made: async () => results });
}

const changed = (at: number, value: number) => GOLDEN.with(at, value);

test('a result passes up to its tolerance and fails above it, which is relative too', async () => {
  const accepted = 0.01 + 0.001 * 4;
  const within = await verdict({ y: changed(3, -4 + 0.999 * accepted) });
  assert.is(within.status, 'passed');
  const beyond = await verdict({ y: changed(3, -4 - 1.001 * accepted) });
  assert.is(beyond.status, 'failed');
  const [{ output, error, accepted: told, ratio, stage }] = beyond.comparisons;
  assert.equal([output, stage], ['y', false]);
  assert.ok(Math.abs(ratio - 1.001) < 1e-9 && Math.abs(told - accepted) < 1e-12 && Math.abs(error - 1.001 * accepted) < 1e-12);
});

test('grey levels: some may be off by one, none by two, and many not at all', () => {
  const expected = Array.from({ length: 1000 }, (_, i) => i % 256);
  const off = (count: number, by: number) => expected.map((level, i) => (i % 256 < 250 && i < count ? level + by : level));
  assert.is(compareLevels('y', expected, expected).ratio, 0);
  assert.is(compareLevels('y', expected, off(1, 1)).ratio, 0.02);
  assert.ok(compareLevels('y', expected, off(50, 1)).ratio <= 1);
  assert.ok(compareLevels('y', expected, off(51, 1)).ratio > 1);
  assert.is(compareLevels('y', expected, off(1, 2)).ratio, 2);
  assert.ok(Number.isNaN(compareLevels('y', expected, off(1, Number.NaN)).ratio));
});

test('values that are not finite fail wherever they are', async () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    for (const at of GOLDEN.keys()) {
      const report = await verdict({ y: changed(at, value) });
      assert.is(report.status, 'failed', `${value} at ${at}`);
      assert.is.not(report.comparisons[0].ratio <= 1, true);
    }
  }
  assert.is((await verdict({ y: changed(2, Number.NaN) }, { metric: 'mean_abs' })).status, 'failed');
});

test('a result of another size fails and says so', async () => {
  for (const y of [[], GOLDEN.slice(1), [...GOLDEN, 0]]) {
    const report = await verdict({ y });
    assert.is(report.status, 'failed');
    assert.match(String(report.reason), `${y.length} values, and 6 are expected`);
  }
});

test('a missing result fails; a missing stage is told', async () => {
  const report = await verdict({});
  assert.is(report.status, 'failed');
  assert.match(String(report.reason), /gives no y/);
  const stage = await verdict({}, { stage: true });
  assert.equal(stage.notCompared, ['y']);
  assert.is(stage.status, 'failed', 'nothing was compared');
  assert.is((await verdict({ y: changed(0, 2) }, { stage: true })).status, 'failed', 'a wrong stage fails its case');
});

test('an exact output accepts no difference', async () => {
  assert.is((await verdict({ y: GOLDEN }, { abs: 0, rel: 0 })).status, 'passed');
  assert.is((await verdict({ y: changed(5, -6.0001) }, { abs: 0, rel: 0 })).status, 'failed');
});

test('mean_abs compares the mean difference', async () => {
  const report = await verdict({ y: changed(0, 1.054) }, { metric: 'mean_abs' });
  assert.is(report.status, 'passed');
  assert.ok(Math.abs(report.comparisons[0].ratio - 0.9) < 1e-9);
  assert.is((await verdict({ y: changed(0, 1.066) }, { metric: 'mean_abs' })).status, 'failed');
});

test('a selection compares the elements that are stored, and only these', async () => {
  // (1, 5, 2), of which rows 0, 2 and 4 are stored.
  const whole = [1, -2, 90, 91, 3, -4, 92, 93, 5, -6];
  const select = { dim: 1, step: 2 };
  assert.is((await verdict({ y: whole }, { select })).status, 'passed');
  assert.is((await verdict({ y: whole.with(9, -7) }, { select })).status, 'failed');
  assert.is((await verdict({ y: whole.slice(2) }, { select })).status, 'failed');
});

test('an operation that throws fails its case', async () => {
  const entry = makeCase();
  const context = new VerifyContext(await GoldenFolder.open(openMade([entry])), await testDevice());
  const throwing = async () => {
    throw new UserError('out of luck');
  };
  const report = await runCase(entry, context, { made: throwing });
  assert.equal([report.status, report.reason], ['failed', 'out of luck']);
});

test('every key of a configuration is read by the operation, or the case fails by its name', async () => {
  const run = async (config: unknown, read: (config: Record<string, unknown>) => unknown) => {
    const entry = makeCase({}, { config });
    const context = new VerifyContext(await GoldenFolder.open(openMade([entry])), await testDevice());
    return runCase(entry, context, { made: async (given) => ({ y: GOLDEN, read: [Number(read(given.config))] }) });
  };
  assert.is((await run({ a: 1, b: { c: 2 } }, ({ a, b }) => [a, b])).status, 'passed');
  assert.is((await run(undefined, () => 0)).status, 'passed');
  const report = await run({ a: 1, s_new: 0.4, s_other: [1, 2] }, ({ a }) => a);
  assert.equal(
    [report.status, report.reason],
    ['failed', "the operation made knows no setting 's_new' (0.4), 's_other' ([1,2]), so its results would mean nothing"],
  );
});

test("a sampler's range of churn is taken from the configuration", async () => {
  const device = await testDevice();
  const entry = (await goldenCases('sampler')).find(({ id }) => id === 'sampler/edm_churn5_linear_cfg')!;
  const context = await goldenContext(device);
  const status = async (settings: object) => (await runCase({ ...entry, config: { ...entry.config, ...settings } }, context)).status;
  assert.is(await status({ s_tmin: 0, s_tmax: 1000 }), 'passed');
  assert.is(await status({ s_tmin: 999, s_tmax: 1000 }), 'failed', 'no noise is added, where the case has some');
  await context.dispose();
});

test('what is not run is listed with its reason; a missing file of the core fails', async () => {
  const rng = { op: 'torch_cpu_rand', config: { seed: 0, draws: [] } };
  const open = openMade([
    makeCase({}, { id: 'a', op: 'unheard_of' }),
    makeCase({}, { id: 'c', ...rng, core: false, file: 'absent.safetensors' }),
    makeCase({}, { id: 'd', ...rng, file: 'absent.safetensors' }),
  ]);
  const seen: string[] = [];
  const report = await verifyFolder({ open, device: await testDevice(), onCase: ({ id }) => void seen.push(id) });
  assert.equal(seen, ['a', 'c', 'd']);
  assert.equal([report.passed, report.failed, report.skipped], [0, 1, 2]);
  assert.equal(
    report.cases.slice(0, 2).map(({ reason }) => reason),
    ['no operation unheard_of', 'the folder has no absent.safetensors'],
  );
});

test('a folder is verified by filter, and leaves no buffer behind', async () => {
  const device = await testDevice();
  const before = { ...device.memory };
  const report = await verifyFolder({ open: openGolden, device, filter: 'vae/encode1' });
  assert.equal([report.passed, report.failed, report.skipped], [1, 0, 0]);
  assert.is(device.memory.buffers, before.buffers);
  assert.is(device.memory.bytes, before.bytes);
});

test('a folder without index.json, or with another one, is refused', async () => {
  const device = await testDevice();
  const refused = async (open: OpenFile, why: RegExp) => {
    try {
      await verifyFolder({ open, device });
    } catch (error) {
      assert.instance(error, UserError);
      return assert.match((error as Error).message, why);
    }
    assert.unreachable('it was accepted');
  };
  await refused(async (name) => Promise.reject(new UserError(`no ${name}`)), /no index.json/);
  await refused(async (name) => bytesSource(name, new TextEncoder().encode('{')), /not JSON/);
  await refused(async (name) => bytesSource(name, new TextEncoder().encode('{"cases": 3}')), /no list 'cases'/);
});

test.run();
