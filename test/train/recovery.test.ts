/** A training whose device is lost goes on from its last update, to the same files. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { TorchRandom } from '../../core/random.ts';
import { type Device, openDevice } from '../../gpu/device.ts';
import { onDevices } from '../../gpu/recovery.ts';
import { currentHost } from '../../host/current.ts';
import type { TrainingImage } from '../../train/denoising.ts';
import { LoraTraining } from '../../train/lora-training.ts';
import { runTraining } from '../../train/run.ts';
import { FaultyGpu } from '../support/faulty-gpu.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { TINY, tinySupir } from '../support/tiny-supir.ts';

const host = await currentHost();
const faulty = new FaultyGpu(await host.gpu());
const open = (before: Device | null) => openDevice({ gpu: faulty.gpu, settle: host.settle, pace: before?.pace });

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

async function train(): Promise<{ files: MemoryFiles; attempts: number }> {
  const files = new MemoryFiles();
  let attempts = 0;
  await onDevices(
    open,
    async (device, attempt, progressed) => {
      attempts++;
      const options = { mode: 'denoising', steps: 4, seed: 5, rank: 2, targets: ['attention'], rate: 1e-3 } as const;
      const training = new LoraTraining(device, await tinySupir(), { ...options, targets: [...options.targets] });
      try {
        await runTraining(files, training, [image], [], {
          folder: 'out',
          name: 'tiny',
          encode: () => training.encode('tiny', 1, { format: 'kohya', dtype: 'f32' }),
          saveEvery: 100,
          validateEvery: 100,
          resume: attempt > 0 && (await files.exists('out/state.safetensors')),
          onStep: progressed,
        });
      } finally {
        await training.dispose();
      }
    },
    { waits: [0.01, 0.1] },
  );
  return { files, attempts };
}

test('lost in the third of four steps, with no adapter for a while', async () => {
  const whole = await train();
  assert.is(whole.attempts, 1);
  const third = Math.ceil(0.6 * faulty.submits);
  faulty.mend();
  faulty.faults = { loseAt: (submit) => submit === third, nullFor: 50 };
  const { files, attempts } = await train();
  assert.equal([attempts, faulty.losses, faulty.refusedAdapters], [2, 1, 1]);
  for (const [path, bytes] of whole.files.files) assert.equal(files.files.get(path), bytes, path);
});

test.run();
