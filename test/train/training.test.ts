/** Training of a LoRA on a tiny SUPIR: it learns, resumes bit for bit, saves standard files, and stops in time. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { parameters } from '../../core/module.ts';
import { TorchRandom } from '../../core/random.ts';
import { input } from '../../core/tensor.ts';
import { compile } from '../../gpu/program.ts';
import { adaptersOf, LoraStack } from '../../models/lora.ts';
import type { TrainingImage } from '../../train/denoising.ts';
import { LoraTraining, type LoraTrainingOptions } from '../../train/lora-training.ts';
import { type RunOptions, runTraining } from '../../train/run.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { readLora } from '../../weights/lora.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { testDevice } from '../support/device.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { refused } from '../support/refused.ts';
import { TINY, tinySupir } from '../support/tiny-supir.ts';

const device = await testDevice();
const supir = await tinySupir();

/** Latents of flat patches: something to learn. */
function image(seed: number, side = 4): TrainingImage {
  const random = new TorchRandom(seed);
  const patch = random.randn(4);
  const size = side * side * 4;
  return {
    name: `image ${seed}`,
    shape: [side, side, 4],
    mean: Float32Array.from({ length: size }, (_, i) => patch[i % 4]),
    deviation: new Float32Array(size).fill(0.01),
    hint: random.randn(size),
    context: random.randn(6 * TINY.unet.context_dim),
    vector: random.randn(TINY.unet.adm_in_channels),
  };
}

const images = [1, 2, 3, 4].map((seed) => image(seed));
const held = [image(9)];

const options: LoraTrainingOptions = {
  mode: 'denoising',
  steps: 6,
  batch: 2,
  seed: 5,
  rank: 2,
  targets: ['attention', 'feedForward', 'conv'],
  rate: 1e-3,
};

const running: Omit<RunOptions, 'encode'> = { folder: 'out', name: 'tiny', saveEvery: 100, validateEvery: 3, resume: false };

const run = (
  files: MemoryFiles,
  training: LoraTraining,
  given: readonly TrainingImage[],
  validation: readonly TrainingImage[],
  { format = 'kohya', ...changed }: Partial<RunOptions> & { format?: 'kohya' | 'peft' } = {},
) =>
  runTraining(files, training, given, validation, {
    ...running,
    encode: () => training.encode('tiny', given.length, { format, dtype: 'f32' }),
    ...changed,
  });

async function withTraining<T>(given: Partial<LoraTrainingOptions>, body: (training: LoraTraining) => Promise<T>): Promise<T> {
  const training = new LoraTraining(device, supir, { ...options, ...given });
  try {
    return await body(training);
  } finally {
    await training.dispose();
  }
}

test('the loss falls, in both modes, with every option', async () => {
  for (const mode of ['denoising', 'restoration'] as const) {
    await withTraining(
      { mode, steps: 30, rate: 1e-2, ema: 0.9, minSnr: 5, noiseOffset: 0.05, lambda: 1e-5, accumulate: 2, decay: 'cosine', warmup: 3 },
      async (training) => {
        const before = await training.validate(images);
        let last = 0;
        for (let i = 0; i < 30; i++) last = (await training.update(images)).step;
        assert.is(last, 30);
        const after = await training.validate(images);
        assert.ok(after < 0.9 * before, `${mode}: ${before} to ${after}`);
        assert.is(await training.validate(images), after, 'validation changes nothing and is the same again');
      },
    );
  }
});

test('checkpointing changes memory, not the result', async () => {
  const [kept, computed] = await Promise.all(
    [false, true].map((checkpointing) =>
      withTraining({ checkpointing }, async (training) => {
        await training.update(images);
        return (await training.result()).flatMap((each) => [...each]);
      }),
    ),
  );
  const apart = Math.max(...kept.map((value, i) => Math.abs(value - computed[i])));
  assert.ok(apart < 1e-6, `${apart}`);
});

test('interrupted and resumed gives the same files as uninterrupted, bit for bit', async () => {
  const whole = new MemoryFiles();
  const ema = { ema: 0.9 };
  await withTraining(ema, (training) => run(whole, training, images, held));
  const parts = new MemoryFiles();
  let asked = 0;
  const first = await withTraining(ema, (training) => run(parts, training, images, held, { stopped: () => ++asked > 4 }));
  assert.equal([first.step, first.interrupted], [4, true]);
  await refused(
    withTraining(ema, (training) => run(parts, training, images, held)),
    /already holds a training/,
  );
  await refused(
    withTraining({ ...ema, rate: 2e-3 }, (training) => run(parts, training, images, held, { resume: true })),
    /rate was 0\.001 and is 0\.002/,
  );
  await refused(
    withTraining(ema, (training) => run(parts, training, [image(7)], held, { resume: true })),
    /other images/,
  );
  const second = await withTraining(ema, (training) => run(parts, training, images, held, { resume: true }));
  assert.equal([second.step, second.interrupted], [6, false]);
  assert.equal([...parts.files.keys()].sort(), [
    'out/log.jsonl',
    'out/loss.svg',
    'out/state.safetensors',
    'out/tiny-best.safetensors',
    'out/tiny.safetensors',
  ]);
  for (const [path, bytes] of whole.files) assert.equal(parts.files.get(path), bytes, path);
  const log = new TextDecoder()
    .decode(whole.files.get('out/log.jsonl'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.equal(
    log.filter(({ loss }) => loss !== undefined).map(({ step }) => step),
    [1, 2, 3, 4, 5, 6],
  );
  assert.equal(
    log.filter(({ validation }) => validation !== undefined).map(({ step }) => step),
    [0, 3, 6],
  );
  assert.match(new TextDecoder().decode(whole.files.get('out/loss.svg')), /^<svg [\s\S]*<polyline [\s\S]*<\/svg>\n$/);
});

test('stopped before the first step, and resumed, the files are those of an uninterrupted training', async () => {
  const [whole, parts] = [new MemoryFiles(), new MemoryFiles()];
  await withTraining({}, (training) => run(whole, training, images, held));
  for (const resume of [false, true]) {
    const stopped = await withTraining({}, (training) => run(parts, training, images, held, { resume, stopped: () => true }));
    assert.equal([stopped.step, stopped.interrupted], [0, true]);
  }
  let asked = 0;
  await withTraining({}, (training) => run(parts, training, images, held, { resume: true, stopped: () => ++asked > 3 })); // at a validation
  await withTraining({}, (training) => run(parts, training, images, held, { resume: true }));
  assert.equal([...parts.files.keys()].sort(), [...whole.files.keys()].sort());
  for (const [path, bytes] of whole.files) assert.equal(parts.files.get(path), bytes, path);
});

test('a state that is damaged, or of other weights or other images of the same names, is not gone on with', async () => {
  const files = new MemoryFiles();
  let asked = 0;
  await withTraining({}, (training) => run(files, training, images, held, { model: 'weights', stopped: () => ++asked > 2 }));
  const state = files.files.get('out/state.safetensors')!;
  const resume = (changed: Partial<RunOptions> = {}, given = images) =>
    withTraining({}, (training) => run(files, training, given, held, { model: 'weights', resume: true, stopped: () => true, ...changed }));
  await refused(resume({ model: 'others' }), /began from other weights\. Give the model it began from/);
  const other = { ...images[1], mean: images[1].mean.map((value) => value + 1) };
  await refused(resume({}, [images[0], other, ...images.slice(2)]), /other images/);
  const text = new TextDecoder('latin1').decode(state);
  const at = (part: string) => text.indexOf(part) + part.length;
  const changes: [what: string, bytes: Uint8Array<ArrayBuffer>][] = [
    ['a bit of a value', state.map((byte, i) => (i === state.length - 5 ? byte ^ 64 : byte))],
    ['the step', state.map((byte, i) => (i === at('"step":"') ? 0x34 : byte))],
    ['a rate', state.map((byte, i) => (i === at('\\"seed\\":') ? 0x36 : byte))],
    ['zeros', new Uint8Array(state.length)],
    ['half of it', state.slice(0, state.length >> 1)],
  ];
  for (const [what, bytes] of changes) {
    assert.not.equal(bytes, state, what);
    files.files.set('out/state.safetensors', bytes);
    await refused(resume(), /^The state out\/state\.safetensors is damaged\. Start again in another folder\.$/);
  }
  files.files.set('out/state.safetensors', state);
  const log = files.files.get('out/log.jsonl')!;
  files.files.set('out/log.jsonl', log.slice(0, -5));
  await refused(resume(), /out\/log\.jsonl: line \d is damaged\. Remove it/);
  files.files.set('out/log.jsonl', log);
  await resume();
});

test('a saved LoRA loads again under both spellings and gives the trained result', async () => {
  const weights = [...parameters(supir)].map(([, parameter]) => parameter);
  const { unet } = TINY;
  const of = () => ({
    eps: supir.model.diffusion_model.forward(
      input('x', [1, 4, 4, 4]),
      input('t', [1, 8]),
      input('c', [1, 6, 16]),
      input('v', [1, unet.adm_in_channels]),
      null,
    ),
  });
  const random = new TorchRandom(3);
  const values = { x: random.randn(64), t: random.randn(8), c: random.randn(96), v: random.randn(unet.adm_in_channels) };
  const forward = async (graph: ReturnType<typeof of>) => {
    const program = await compile(device, graph);
    const { eps } = await program.run(values);
    program.dispose();
    return eps;
  };
  for (const format of ['kohya', 'peft'] as const) {
    await withTraining({ alpha: 1 }, async (training) => {
      const files = new MemoryFiles();
      await run(files, training, images, [], { folder: format, format });
      const trained = await forward(new LoraStack([{ adapters: training.adapters, scale: 1 }]).apply(of()));
      const saved = await openSafetensors(bytesSource('saved', files.files.get(`${format}/tiny.safetensors`)!));
      assert.equal(
        ['ss_network_dim', 'ss_base_model_version', 'ss_steps'].map((key) => saved.metadata.get(key)),
        ['2', 'tiny', '6'],
      );
      assert.match(saved.names()[0], format === 'kohya' ? /^lora_unet_\w+\.lora_down\.weight$/ : /^unet\.[\w.]+\.lora_A\.weight$/);
      const adapters = adaptersOf(await readLora(saved, weights));
      assert.is(adapters.length, training.adapters.length);
      const loaded = new LoraStack([{ adapters, scale: 1 }]);
      const again = await forward(loaded.apply(of()));
      loaded.release(device);
      const apart = Math.max(...again.map((value, i) => Math.abs(value - trained[i])));
      assert.ok(apart < 1e-5, `${format}: ${apart}`);
      const plain = await forward(of());
      assert.ok(Math.max(...plain.map((value, i) => Math.abs(value - trained[i]))) > 1e-4, 'it acts');
    });
  }
});

test('a loss that is no number stops it and keeps the last good state', async () => {
  const files = new MemoryFiles();
  const bad = { ...images[0], name: 'bad', mean: images[0].mean.map(() => Number.NaN) };
  let at = 0;
  const mixed = new Proxy(images, { get: (target, key) => (key === 'filter' && at >= 1 ? () => [bad] : Reflect.get(target, key)) });
  await withTraining({}, async (training) => {
    await refused(run(files, training, mixed, [], { onStep: ({ step }) => void (at = step) }), /Step 3: the loss is NaN .* after step 2/);
    assert.is(training.step, 2);
    assert.ok((await training.result()).every((each) => each.every(Number.isFinite)));
  });
  const state = await openSafetensors(bytesSource('state', files.files.get('out/state.safetensors')!));
  assert.is(state.metadata.get('step'), '2');
});

test('the time left is told from the second step on, by the time of those after the first, what comes between included', async () => {
  let ms = 0;
  const told: (number | null)[] = [];
  await withTraining({}, async (training) => {
    const { steps } = training.options;
    const now = () => ms;
    const onStep = ({ step }: { step: number }, left: number | null) => {
      told.push(left);
      ms += step === 1 ? 1000 : 3000; // what follows a step, such as saving
    };
    const update = training.update.bind(training);
    training.update = (items) => {
      ms += training.step === 0 ? 60_000 : 2000;
      return update(items);
    };
    await run(new MemoryFiles(), training, images, [], { now, onStep });
    assert.is(told.length, steps);
    assert.equal(told.slice(0, 3), [null, 3 * (steps - 2), 4 * (steps - 3)]);
    assert.is(told[steps - 1], 0);
  });
});

test('a full disk leaves the files of the save before', async () => {
  const files = new MemoryFiles();
  await withTraining({}, async (training) => {
    const onStep = ({ step }: { step: number }) => {
      if (step === 3) files.capacity = 0;
    };
    await refused(run(files, training, images, [], { saveEvery: 2, onStep }), /the disk is full/);
  });
  const state = await openSafetensors(bytesSource('state', files.files.get('out/state.safetensors')!));
  assert.is(state.metadata.get('step'), '2');
});

test('settings that make no sense are refused', async () => {
  for (const [given, text] of [
    [{ steps: 0 }, /'steps' is 0/],
    [{ batch: 1.5 }, /'batch' is 1\.5/],
    [{ rank: 0 }, /rank 0/],
    [{ targets: [] }, /No layer of the UNet/],
    [{ rate: 0 }, /'rate' is 0/],
    [{ minSnr: -1 }, /gamma is -1/],
    [{ betas: [0.9, 1] }, /betas/],
  ] as [Partial<LoraTrainingOptions>, RegExp][]) {
    assert.throws(
      () => new LoraTraining(device, supir, { ...options, ...given }),
      (error: Error) => error instanceof UserError && text.test(error.message),
    );
  }
  await refused(
    withTraining({}, (training) => training.update([])),
    /no images/,
  );
  await refused(
    withTraining({ mode: 'restoration' }, (training) => training.update(images.map(({ hint: _, ...rest }) => rest))),
    /no degraded counterpart/,
  );
});

test('no buffer stays', async () => {
  supir.release(device);
  const before = { ...device.memory };
  await withTraining({}, async (training) => {
    await training.update(images);
    await training.validate(held);
    assert.ok(device.memory.buffers > before.buffers);
  });
  supir.release(device);
  assert.is(device.memory.buffers, before.buffers);
  assert.is(device.memory.bytes, before.bytes);
});

test.run();
