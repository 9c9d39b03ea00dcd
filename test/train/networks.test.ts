/** Training of parts of a tiny SUPIR: each learns, resumes bit for bit, and is saved; what was there before comes back. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeF16 } from '../../core/half.ts';
import { parameters } from '../../core/module.ts';
import { TorchRandom } from '../../core/random.ts';
import { sizeOf } from '../../core/tensor.ts';
import type { TrainingPicture } from '../../train/autoencoding.ts';
import type { TrainingImage } from '../../train/denoising.ts';
import { writeModelFolder } from '../../train/model-files.ts';
import { NetworkTraining, type NetworkTrainingOptions, type TrainableNetwork } from '../../train/network-training.ts';
import { runTraining } from '../../train/run.ts';
import type { TrainingItem } from '../../train/training.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { testDevice } from '../support/device.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { refused } from '../support/refused.ts';
import { TINY, tinySupir } from '../support/tiny-supir.ts';

const device = await testDevice();
const supir = await tinySupir('f16');

function latents(seed: number): TrainingImage {
  const random = new TorchRandom(seed);
  const patch = random.randn(4);
  return {
    name: `latents ${seed}`,
    shape: [4, 4, 4],
    mean: Float32Array.from({ length: 64 }, (_, i) => patch[i % 4]),
    deviation: new Float32Array(64).fill(0.01),
    hint: random.randn(64),
    context: random.randn(6 * TINY.unet.context_dim),
    vector: random.randn(TINY.unet.adm_in_channels),
  };
}

function picture(seed: number): TrainingPicture {
  const random = new TorchRandom(seed);
  const color = random.rand(3).map((value) => 2 * value - 1);
  const pixels = Float32Array.from({ length: 8 * 12 * 3 }, (_, i) => color[i % 3]);
  const noise = random.randn(pixels.length);
  return { name: `picture ${seed}`, shape: [8, 12, 3], pixels, degraded: pixels.map((value, i) => value + 0.1 * noise[i]) };
}

const items = (network: TrainableNetwork): TrainingItem[] =>
  [1, 2, 3].map((seed) => (network === 'vae' || network === 'denoise-encoder' ? picture(seed) : latents(seed)));

async function withTraining<T>(
  given: Partial<NetworkTrainingOptions>,
  body: (training: NetworkTraining<TrainingItem>) => Promise<T>,
): Promise<T> {
  const network = given.network ?? 'control';
  const mode = network === 'unet' ? 'denoising' : 'restoration';
  const options: NetworkTrainingOptions = { network, mode, steps: 6, batch: 2, seed: 3, rate: 3e-3, ema: 0.5, ...given };
  const training = await NetworkTraining.open<TrainingItem>(device, supir, options);
  try {
    return await body(training);
  } finally {
    await training.dispose();
  }
}

const PARTS: Record<TrainableNetwork, RegExp> = {
  vae: /^first_stage_model\.(encoder|decoder|quant_conv|post_quant_conv)\./,
  'denoise-encoder': /^first_stage_model\.denoise_encoder\./,
  unet: /^model\.diffusion_model\.(?!project_modules)/,
  control: /^model\.(control_model|diffusion_model\.project_modules)\./,
};

for (const [network, part] of Object.entries(PARTS) as [TrainableNetwork, RegExp][]) {
  test(`${network}: the loss falls; interrupted and resumed it ends alike, bit for bit; the file holds the part and no more`, async () => {
    const before = new Map([...parameters(supir)].map(([, { name, dtype, source }]) => [name, { dtype, source }]));
    const buffers = device.memory.buffers;
    const images = items(network);
    const run = (files: MemoryFiles, given: Partial<NetworkTrainingOptions>, resume: boolean, stopped?: () => boolean) =>
      withTraining({ network, ...given }, (training) => {
        const options = { folder: 'out', name: network, saveEvery: 100, validateEvery: 6, resume, encode: () => training.encode() };
        return runTraining(files, training, images, images, { ...options, ...(stopped ? { stopped } : {}) });
      });
    const [whole, parts] = [new MemoryFiles(), new MemoryFiles()];
    const { validation } = await run(whole, {}, false);
    assert.is(validation!.bestStep, 6);
    const text = new TextDecoder().decode(whole.files.get('out/log.jsonl'));
    const judged = [...text.matchAll(/"validation":([\d.e-]+)/g)].map(([, loss]) => Number(loss));
    assert.ok(judged[1] < 0.98 * judged[0], `${judged}`);

    let asked = 0;
    await run(parts, {}, false, () => ++asked > 3);
    await run(parts, {}, true);
    for (const [path, bytes] of whole.files) assert.equal(parts.files.get(path), bytes, path);

    const saved = await openSafetensors(bytesSource('saved', whole.files.get(`out/${network}.safetensors`)!));
    const expected = [...before.keys()].filter((name) => part.test(name));
    assert.equal(saved.names().sort(), expected.sort());
    const now = new Map([...parameters(supir)].map(([, { name, dtype, source }]) => [name, { dtype, source }]));
    assert.ok(
      [...now].every(([name, { dtype, source }]) => before.get(name)!.dtype === dtype && before.get(name)!.source === source),
      'the model has its own weights back',
    );
    supir.release(device);
    assert.is(device.memory.buffers, buffers);
  });
}

test('settings that make no sense, and images of another kind', async () => {
  await refused(
    withTraining({ network: 'control', mode: 'denoising' }, async () => 0),
    /its mode must be 'restoration'/,
  );
  await refused(
    withTraining({ network: 'vae', kl: -1 }, async () => 0),
    /KL is -1/,
  );
  await refused(
    withTraining({ steps: 0 }, async () => 0),
    /'steps' is 0/,
  );
  const plain = items('denoise-encoder').map(({ degraded: _, ...rest }: TrainingItem & { degraded?: unknown }) => rest);
  await refused(
    withTraining({ network: 'denoise-encoder' }, (training) => training.update(plain)),
    /picture \d has no degraded counterpart/,
  );
  const nan = items('vae').map((item) => ({ ...item, pixels: new Float32Array(sizeOf(item.shape)).fill(Number.NaN) }));
  await refused(
    withTraining({ network: 'vae' }, (training) => training.update(nan)),
    /Step 1: the loss is NaN/,
  );
});

test('a model folder with weights replaced', async () => {
  const files = new MemoryFiles();
  const f32 = (values: number[]) => ({ dtype: 'F32' as const, shape: [values.length], data: Float32Array.from(values) });
  const half = { dtype: 'F16' as const, shape: [2], data: Uint16Array.of(0x3c00, 0x4000) };
  files.files.set('from/config.json', new TextEncoder().encode('{"files":{"sdxl":"a.st","supir":"b.st","tokenizer":"t.json"}}'));
  files.files.set('from/t.json', new TextEncoder().encode('{}'));
  files.files.set(
    'from/a.st',
    encodeSafetensors(
      [
        ['x', half],
        ['y', f32([1, 2])],
      ],
      { note: 'kept' },
    ),
  );
  files.files.set('from/b.st', encodeSafetensors([['z', f32([3])]]));
  await writeModelFolder(
    files,
    'from',
    'to',
    new Map([
      ['x', Float32Array.of(-1, 0.5)],
      ['z', Float32Array.of(9)],
    ]),
  );
  const [a, b] = await Promise.all(['a', 'b'].map((name) => openSafetensors(bytesSource(name, files.files.get(`to/${name}.st`)!))));
  assert.equal([...decodeF16(await a.f16bits('x'))], [-1, 0.5]);
  assert.equal([...(await a.f32('y')), ...(await b.f32('z'))], [1, 2, 9]);
  assert.equal([a.info('x').dtype, a.metadata.get('note')], ['F16', 'kept']);
  assert.equal(files.files.get('to/config.json'), files.files.get('from/config.json'));
  assert.equal(files.files.get('to/t.json'), files.files.get('from/t.json'));
  const error = await writeModelFolder(files, 'from', 'to', new Map([['w', Float32Array.of(1)]])).then(
    () => null,
    (reason: Error) => reason,
  );
  assert.match(error!.message, /No file of from holds w/);
});

test.run();
