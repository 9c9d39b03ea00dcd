/** A driver with faults: a training ends with the same files, or with words that say why not. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DeviceError } from '../../core/errors.ts';
import { TorchRandom } from '../../core/random.ts';
import { type Device, openDevice } from '../../gpu/device.ts';
import { onDevices } from '../../gpu/recovery.ts';
import { currentHost } from '../../host/current.ts';
import type { TrainingImage } from '../../train/denoising.ts';
import { LoraTraining } from '../../train/lora-training.ts';
import { runTraining } from '../../train/run.ts';
import { FaultyGpu } from '../support/faulty-gpu.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { refusal } from '../support/refused.ts';
import { TINY, tinySupir } from '../support/tiny-supir.ts';

const host = await currentHost();
const faulty = new FaultyGpu(await host.gpu());

const random = new TorchRandom(1);
const image: TrainingImage = {
  name: 'image',
  shape: [4, 4, 4],
  mean: random.randn(64),
  deviation: new Float32Array(64).fill(0.01),
  hint: random.randn(64),
  context: random.randn(6 * TINY.unet.context_dim),
  vector: random.randn(TINY.unet.adm_in_channels),
};
const STEPS = 3;

interface Trained {
  files: MemoryFiles;
  attempts: number;
  /** Submits by the end of each step. */
  submits: number[];
  peak: number;
}

/** Trains; `files` has what there is also where that fails. */
async function train(files = new MemoryFiles(), saveEvery = 100): Promise<Trained> {
  const submits: number[] = [];
  let [attempts, peak] = [0, 0];
  const open = async (before: Device | null) => {
    const device = await openDevice({ gpu: faulty.gpu, settle: host.settle, pace: before?.pace });
    // A speed that does not change, so that submits are as long in every run.
    if (!before) device.pace.seconds = 0.00005;
    device.pace.learn = () => {};
    return device;
  };
  await onDevices(
    open,
    async (device, attempt, progressed) => {
      attempts++;
      const options = { mode: 'denoising', steps: STEPS, seed: 5, rank: 2, targets: ['attention'], rate: 1e-3 } as const;
      const training = new LoraTraining(device, await tinySupir(), { ...options, targets: [...options.targets] });
      try {
        await runTraining(files, training, [image], [], {
          folder: 'out',
          name: 'tiny',
          encode: () => training.encode('tiny', 1, { format: 'kohya', dtype: 'f32' }),
          saveEvery,
          validateEvery: 100,
          resume: attempt > 0 && (await files.exists('out/state.safetensors')),
          onStep() {
            submits.push(faulty.submits);
            progressed();
          },
        });
      } finally {
        await training.dispose();
        peak = device.memory.peak;
      }
    },
    { waits: [0.01, 0.1] },
  );
  return { files, attempts, submits, peak };
}

let whole: Trained;
let largest: number;

test.before(async () => {
  whole = await train();
  largest = faulty.largest;
  assert.is(whole.attempts, 1);
});

test.before.each(() => faulty.mend());

function assertSame(files: MemoryFiles): void {
  for (const [path, bytes] of whole.files.files) assert.equal(files.files.get(path), bytes, path);
}

test('lost in the second step, with no adapter for a while: the same files', async () => {
  faulty.faults = { loseAt: (submit) => submit === whole.submits[0] + 2, nullFor: 50 };
  const { files, attempts } = await train();
  assert.equal([attempts, faulty.losses, faulty.refusedAdapters], [2, 1, 1]);
  assertSame(files);
});

test('lost after a save: what was done until then is gone on from, to the same files', async () => {
  const files = new MemoryFiles();
  let begun = 0;
  faulty.faults = {
    loseAt: (submit) => files.files.has('out/state.safetensors') && faulty.losses === 0 && submit > (begun ||= submit) + 1,
  };
  const { attempts, submits } = await train(files, 2);
  assert.equal([attempts, faulty.losses, submits.length], [2, 1, STEPS]);
  assertSame(files);
});

test('lost by a watchdog that ends long submits: they become shorter, and the files are the same', async () => {
  faulty.faults = { mostWorkgroups: Math.ceil(0.8 * largest) };
  const { files, attempts } = await train();
  assert.ok(attempts === 2 || attempts === 3, `${attempts} attempts`);
  assertSame(files);
});

test('memory that does not suffice is told', async () => {
  faulty.faults = { memory: 0.8 * whole.peak };
  const { message } = await refusal(train());
  assert.match(message, /^Out of GPU memory while placing .* of activations: no room for \d+ bytes\./);
});

test('work that is dropped without an error is found, and what was done before is kept', async () => {
  faulty.faults = { dropAt: () => true };
  const nothing = (await refusal(train())) as DeviceError;
  assert.equal([nothing.code, nothing.values?.fault], ['wrong-values', 'constant']);
  assert.match(nothing.message, /^Step 1 gave what cannot be right: .* Probably the driver dropped the work/);
  faulty.mend();
  const files = new MemoryFiles();
  faulty.faults = { dropAt: () => files.files.has('out/state.safetensors') };
  const later = (await refusal(train(files, 2))) as DeviceError;
  assert.equal([later.code, later.values?.fault, later.values?.step], ['wrong-values', 'unchanged', 3]);
  faulty.mend();
  const unsaved = new MemoryFiles();
  faulty.faults = { dropAt: (submit) => submit > whole.submits[1] };
  const unread = (await refusal(train(unsaved, 2))) as DeviceError;
  assert.equal([unread.code, unread.values?.fault], ['wrong-values', 'unread']);
  assert.not.ok(await unsaved.exists('out/state.safetensors'));
});

test.run();
