/** Progress: one estimate over all stages, told by work done; and several seeds of one photo share what no seed changes. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { host } from '../../host/node.ts';
import type { Image } from '../../image/image.ts';
import { type PlannedWork, type Progress, ProgressMeter } from '../../restore/progress.ts';
import { Restorer, Samples } from '../../restore/restorer.ts';

const demo = new URL('../../demo', import.meta.url).pathname;
const photo: Image = { width: 64, height: 64, data: Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 7919) % 251) };
const options = { steps: 3, cfg: 2, seed: 3, minSize: 64 };

const STAGES = [
  { stage: 'read', graph: 'encoder', parts: 1, gflop: 10 },
  { stage: 'sample', graph: 'denoiser', parts: 4, gflop: 80 },
  { stage: 'write', graph: 'encoder', parts: 2, gflop: 10 },
];

/** A meter whose clock is set by hand, and what it told. */
function meter(known = {}, stages: PlannedWork[] = STAGES) {
  const told: Progress[] = [];
  const clock = { ms: 0 };
  return {
    told,
    clock,
    meter: new ProgressMeter(
      stages,
      (progress) => void told.push(progress),
      known,
      () => clock.ms,
    ),
  };
}

test('time left counts every stage, by its own network as soon as that is measured', () => {
  const { told, clock, meter: it } = meter();
  const last = () => told[told.length - 1];
  const work = (gflop: number, seconds: number) => {
    clock.ms += 1000 * seconds;
    it.computed(1e9 * gflop);
    it.settled();
  };
  it.begin('read');
  assert.equal(last(), { stage: 'read', done: 0, total: 1, share: 0, secondsLeft: null });
  work(5, 1);
  assert.equal([last().done, last().share, last().secondsLeft], [0, 0.05, 95 / 5]);
  work(5, 1);
  it.begin('sample');
  assert.equal(last(), { stage: 'sample', done: 0, total: 4, share: 0.1, secondsLeft: 90 / 5 });
  work(20, 20); // its first part, in which a driver compiles
  assert.equal([last().done, last().secondsLeft], [1, 60 + 2]);
  work(20, 2);
  assert.is(last().done, 2);
  assert.ok(last().secondsLeft! > 6 && last().secondsLeft! < 7, `${last().secondsLeft}: the slow first part counts little`);
  clock.ms += 50_000;
  it.compiling(3, 7);
  assert.equal([last().stage, last().done, last().total], ['compile', 3, 7]);
  work(40, 4);
  assert.ok(Math.abs(last().share - 0.9) < 1e-9);
  it.begin('write');
  work(10, 2);
  assert.equal([last().done, last().share, last().secondsLeft], [2, 1, 0]);
  assert.equal(Object.keys(it.speeds), ['encoder', 'denoiser']);
  assert.ok(Math.abs(it.speeds.encoder - 5) < 1e-9);
});

test('a resumed stage begins where it was; known speeds tell the time at once', () => {
  const { told, meter: it } = meter({ encoder: 10, denoiser: 40 });
  it.begin('read');
  assert.is(told[0].secondsLeft, 1 + 2 + 1);
  it.begin('sample', 0.5);
  assert.equal([told[1].done, told[1].secondsLeft], [2, 1 + 1]);
});

test('parts that differ count as they are: steps that take features over are short', () => {
  const sampling = { ...STAGES[1], ends: [0.4, 0.5, 0.9, 1] };
  const { told, clock, meter: it } = meter({ denoiser: 8 }, [sampling]);
  it.begin('sample');
  for (const gflop of [32, 8, 32, 8]) {
    clock.ms += 125 * gflop;
    it.computed(1e9 * gflop);
    it.settled();
  }
  assert.equal(
    told.map(({ done }) => done),
    [0, 0, 1, 1, 2, 2, 3, 3, 4],
  );
  assert.ok(Math.abs(told[4].secondsLeft! - 5) < 1e-6, `${told[4].secondsLeft}`);
  const resumed = meter({ denoiser: 8 }, [sampling]);
  resumed.meter.begin('sample', 0.75);
  assert.equal([resumed.told[0].done, resumed.told[0].share], [3, 0.9]);
});

test('a restoration tells every stage, parts of them, and shaders; several seeds share encoding, stage 1 and prompts', async () => {
  const restorer = await Restorer.load(host, demo);
  try {
    const run = async (seed: number, samples?: Samples) => {
      const told: Progress[] = [];
      const progress = (each: Progress) => void told.push(each);
      const { image } = await restorer.restore(photo, { ...options, seed }, { progress, samples });
      const stages = [...new Set(told.map(({ stage }) => stage))].filter((stage) => stage !== 'compile');
      return { told, stages, image };
    };
    const first = await run(3);
    assert.equal(first.stages, ['encode', 'stage1', 'reencode', 'text', 'sample', 'decode']);
    assert.ok(first.told.every(({ share }, i) => share >= (first.told[i - 1]?.share ?? 0) - 1e-9));
    const end = first.told[first.told.length - 1];
    assert.ok(end.stage === 'decode' && Math.abs(end.share - 1) < 1e-6 && end.secondsLeft! < 1e-6, JSON.stringify(end));
    const steps = first.told.filter(({ stage }) => stage === 'sample').map(({ done }) => done);
    assert.equal([...new Set(steps)], [0, 1, 2, 3]);
    const shaders = first.told.filter(({ stage }) => stage === 'compile');
    assert.ok(shaders.length > 10 && shaders.every(({ done, total }) => done <= total));
    assert.ok(restorer.forecast(photo, options).seconds! > 0, 'speeds were learnt');

    const samples = new Samples();
    const both = [await run(3, samples), await run(4, samples)];
    assert.equal(both[0].image.data, first.image.data);
    assert.equal(both[1].stages, ['sample', 'decode']);
    assert.equal(both[1].image.data, (await run(4)).image.data);
    assert.equal((await run(4, samples)).stages, ['sample', 'decode']);
    const other = await restorer.restore(photo, { ...options, seed: 4, prompt: 'a cat. ' }, { samples });
    assert.not.equal(other.image.data, both[1].image.data, 'other options begin again');

    const thrown = await restorer
      .restore(photo, options, {
        progress: ({ stage, share }) => {
          if (stage === 'stage1' && share > 0) throw new Error('enough');
        },
      })
      .catch((error) => error);
    assert.is(thrown.message, 'enough');
    assert.is(restorer.device.clock.observer, null);
    restorer.model.release();
    assert.is(restorer.device.memory.buffers, 0);
  } finally {
    await restorer.close();
  }
});

test.run();
