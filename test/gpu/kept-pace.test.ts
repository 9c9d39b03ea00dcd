/** The pace that an adapter's devices learn is kept from one run to the next. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Notes } from '../../core/notes.ts';
import type { Device } from '../../gpu/device.ts';
import { keepPace, recallPace } from '../../gpu/kept-pace.ts';
import { Pace } from '../../gpu/pace.ts';
import { FACTS } from '../support/facts.ts';

const texts = new Map<string, string>();
const notes: Notes = {
  runtime: 'test 1',
  read: async (name) => texts.get(name) ?? null,
  write: async (name, text) => void texts.set(name, text),
};
const deviceWith = (pace: Pace) => ({ facts: FACTS, pace }) as Device;
const recalled = async (seconds?: number): Promise<Pace> => {
  const pace = new Pace({ software: false, seconds });
  await recallPace(deviceWith(pace), notes);
  return pace;
};
const learnt = async (work: (pace: Pace) => void): Promise<void> => {
  const pace = await recalled();
  work(pace);
  await keepPace(deviceWith(pace), notes);
};

test.before.each(() => texts.clear());

test('a speed that was learnt is where the next device begins; one that learnt nothing keeps nothing', async () => {
  const usual = new Pace({ software: false });
  await learnt(() => {});
  assert.is(texts.size, 0);
  await learnt((pace) => pace.learn(0.1, 0.05));
  const pace = await recalled(0.1);
  assert.ok(Math.abs(pace.flopsPerSecond / usual.flopsPerSecond - Math.SQRT2) < 1e-9);
  assert.is(pace.seconds, 0.1, 'what a submit may take is asked for anew');
});

test('submits that losses made shorter stay so, and grow again run by run without one', async () => {
  await learnt((pace) => {
    pace.learn(0.1, 0.1);
    pace.afterLoss();
    pace.afterLoss();
  });
  const seconds: number[] = [];
  for (let run = 0; run < 4; run++)
    await learnt((pace) => {
      seconds.push(pace.seconds);
      pace.learn(0.1, 0.1);
    });
  assert.equal(seconds, [0.0625, 0.125, 0.25, 0.25]);
  for (let run = 0; run < 9; run++)
    await learnt((pace) => {
      pace.learn(0.1, 0.1);
      pace.afterLoss();
    });
  assert.is((await recalled()).seconds, 0.25 / 16, 'no shorter than a sixteenth');
});

test('a note that cannot be is not believed', async () => {
  await learnt((pace) => pace.learn(0.1, 0.05));
  const [[name, text]] = texts;
  const usual = new Pace({ software: false });
  for (const [from, to] of [
    [/"flopsPerSecond": [\d.]+/, '"flopsPerSecond": 0'],
    [/"flopsPerSecond": [\d.]+/, '"flopsPerSecond": "much"'],
    [/"share": [\d.]+/, '"share": 8'],
    [/"share": [\d.]+/, '"share": null'],
    [/"pace": \{[^}]*\}/, '"pace": []'],
    [/^/, '}'],
  ] as const) {
    assert.match(text, from);
    texts.set(name, text.replace(from, to));
    const { flopsPerSecond, seconds } = await recalled();
    assert.equal([flopsPerSecond, seconds], [usual.flopsPerSecond, usual.seconds], to);
  }
});

test.run();
