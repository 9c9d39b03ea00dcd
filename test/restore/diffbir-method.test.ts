/** DiffBIR and a cleaner alone as methods: opened from folders and files, run in stages, under a budget and after an interruption. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parameters } from '../../core/module.ts';
import { NO_NOTES } from '../../core/notes.ts';
import { TorchRandom } from '../../core/random.ts';
import type { Host } from '../../host/host.ts';
import { host } from '../../host/node.ts';
import type { Image } from '../../image/image.ts';
import { psnr } from '../../image/metrics.ts';
import { type CleanerConfig, cleanerOf, DiffBir } from '../../models/diffbir.ts';
import { CLEANER } from '../../restore/clean-method.ts';
import { cleanWith } from '../../restore/cleaner.ts';
import { restoreDiffBir } from '../../restore/diffbir.ts';
import { cleanerTitle, diffBirFile, diffBirTitle, joinedDiffBir } from '../../restore/diffbir-files.ts';
import { DIFFBIR } from '../../restore/diffbir-method.ts';
import { DIFFBIR_V21, type DiffBirModel } from '../../restore/diffbir-model.ts';
import { inspection } from '../../restore/inspection.ts';
import { METHODS } from '../../restore/methods.ts';
import { methodOf, Restorer } from '../../restore/restorer.ts';
import type { Kind } from '../../restore/stage.ts';
import { SUPIR } from '../../restore/supir.ts';
import type { Tap } from '../../restore/tap.ts';
import { VAE_TILING } from '../../restore/tiled-vae.ts';
import type { PlannedStep } from '../../sampler/planned.ts';
import type { SamplerStep } from '../../sampler/sampler.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { openClipRules, unetRules, vaeRules } from '../../weights/diffusers.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import type { TensorFile } from '../../weights/tensor-file.ts';
import { type Rule, toOther } from '../../weights/translate.ts';
import { convertedBytes } from '../support/converted.ts';
import { projectFile } from '../support/fixtures.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { refusal, refused } from '../support/refused.ts';
import { randomWeights, TINY_RRDB, TINY_SCUNET, TINY_SWINIR, tinyBase, tinyDiffBirFiles } from '../support/tiny-diffbir.ts';

const test = suite('DiffBIR as a method');

/** A host whose files lie in memory. */
function hostOf(files: MemoryFiles): Host {
  return {
    ...{ name: 'node', gpu: () => host.gpu(), settle: host.settle, freeMemory: () => null, machine: host.machine, notes: NO_NOTES },
    fileSource: (path) => files.fileSource(path),
    readFile: (path) => files.readFile(path),
    writeFileAtomic: (path, bytes) => files.writeFileAtomic(path, bytes),
    list: (path) => files.list(path),
    exists: async (path) => (await files.exists(path)) || (await files.list(path)).length > 0,
    remove: (path) => files.remove(path),
  };
}

const photo: Image = { width: 22, height: 17, data: Uint8Array.from({ length: 22 * 17 * 3 }, (_, i) => (i * i * 7) % 256) };
const options = { steps: 4, cfg: 3, seed: 9, minSize: 64, upscale: 3, prompt: 'a cat', positive: '', negative: 'blurry' };
const files = new MemoryFiles();
let restorer: Restorer<Kind>;
let undisturbed: Uint8Array;
const steps: PlannedStep[] = [];

test.before(async () => {
  for (const [name, bytes] of await tinyDiffBirFiles(TINY_RRDB)) files.files.set(`model/${name}`, bytes);
  restorer = await Restorer.load(hostOf(files), 'model', [], { methods: METHODS });
  const step = ({ step, sigma, sigmaHat, cfg, controlScale }: SamplerStep) =>
    void steps.push({ step, sigma, sigmaHat, cfg, controlScale, reuse: false });
  undisturbed = (await restorer.restore(photo, options, { step })).image.data;
});

test.after(async () => {
  await restorer.close();
  assert.is(restorer.device.memory.buffers, 0);
});

test('the folder is of DiffBIR, and its stages give what the whole on host arrays gives', async () => {
  assert.is(restorer.method.name, 'DiffBIR');
  const model = restorer.model as DiffBirModel;
  const { images } = await restoreDiffBir(model.calls({ parameterization: 'auto' }), photo, model.tokens('a cat'), model.tokens('blurry'), {
    ...{ upscale: 3, cleanerEnlarges: true, minSide: 64, cleanerTiles: null, latentTiles: null, vaeTiling: VAE_TILING, padding: 64 },
    ...{ sampler: 'spaced', strength: 1, start: 'noise', noiseAugmentation: 0, samples: 1, seed: 9, sampling: { steps: 4, cfg: 3 } },
  });
  const whole = images[0].data.map((value) => Math.trunc(Math.min(255, Math.max(0, value * 255))));
  assert.equal([images[0].width, images[0].height, undisturbed.length], [66, 51, 66 * 51 * 3]);
  const apart = whole.reduce((most, value, i) => Math.max(most, Math.abs(value - undisturbed[i])), 0);
  assert.ok(apart <= 1, `${apart} levels apart`); // rounding of x to 2 x - 1 and back
});

test('stopped in a multistep sampler it goes on to the same bits, and a budget that makes weights pass through changes none', async () => {
  const multistep = { ...options, sampler: 'edm_dpm++_3m_sde', noiseAugmentation: 100, start: 'condition', rescaleCfg: true };
  const { image } = await restorer.restore(photo, multistep);
  const killed = restorer.restore(photo, multistep, {
    state: 'states',
    step({ step }) {
      if (step === 4) throw new Error('killed');
    },
  });
  assert.is(
    await killed.then(
      () => '',
      ({ message }) => message,
    ),
    'killed',
  );
  const again = await restorer.restore(photo, multistep, { state: 'states' });
  assert.is(again.resumedAt, 3);
  assert.equal(again.image.data, image.data);
  const { peakGpuBytes } = restorer.forecast(photo, multistep);
  restorer.model.release();
  restorer.memory = Math.round(0.75 * peakGpuBytes);
  const tight = restorer.forecast(photo, multistep);
  assert.ok(tight.peakGpuBytes <= restorer.memory && tight.residency !== 'resident', tight.why.join(' '));
  assert.equal((await restorer.restore(photo, multistep)).image.data, image.data);
  restorer.memory = undefined;
});

test('windows reuse deep features, twice a step in solvers that evaluate twice; stopped it goes on before a whole step, and memory is as forecast', async () => {
  const cached = { ...options, sampler: 'edm_heun', steps: 6, cache: 0.5, tile: 8, rescaleCfg: true } as const; // steps 2, 3 and 5 reuse
  const { device } = restorer;
  const forecast = restorer.forecast(photo, cached);
  const { runs, reusing, gflop } = forecast.stages.find(({ stage }) => stage === 'sample')!;
  const uncached = { ...cached, cache: 0 };
  const plain = restorer.forecast(photo, uncached).stages.find(({ stage }) => stage === 'sample')!;
  assert.equal([runs, reusing, plain.runs, plain.reusing], [11 * 2, 6 * 2, 11 * 2, 0]);
  assert.ok(gflop < 0.9 * plain.gflop, `${gflop} of ${plain.gflop}`);
  restorer.model.release();
  device.memory.peak = device.memory.bytes;
  const { image } = await restorer.restore(photo, cached);
  assert.is(device.memory.peak, forecast.peakGpuBytes);
  const stop = (at: number) => ({
    state: 'states',
    step({ step }: SamplerStep) {
      if (step === at) throw new Error('killed');
    },
  });
  assert.is((await refusal(restorer.restore(photo, cached, stop(5)))).message, 'killed');
  const again = await restorer.restore(photo, cached, stop(0));
  assert.is(again.resumedAt, 3);
  assert.equal(again.image.data, image.data);
  await again.finished();
});

test('a forecast has the stages of the method, and tells GPU memory to the byte', async () => {
  const { device } = restorer;
  for (const more of [{}, { guidance: 'w_mse' as const, guidanceScale: 0.001 }]) {
    const forecast = restorer.forecast(photo, { ...options, ...more });
    assert.equal(
      forecast.stages.map(({ stage }) => stage),
      ['clean', 'encode', 'text', 'sample', 'decode'],
    );
    restorer.model.release();
    device.memory.peak = device.memory.bytes;
    const { image } = await restorer.restore(photo, { ...options, ...more });
    assert.is(device.memory.peak, forecast.peakGpuBytes);
    assert.is(Buffer.compare(image.data, undisturbed) === 0, !('guidance' in more), 'guidance changes the result');
  }
});

test('the plan is what sampling then asks for, also of samplers that begin where nothing of the picture is left', async () => {
  const planned = (given: Record<string, unknown>) => DIFFBIR.steps(DIFFBIR.choose(given, DIFFBIR_V21), DIFFBIR_V21);
  const { model, method } = restorer;
  assert.equal(await method.steps(method.choose(options, model.config), model.config), steps);
  assert.is(steps.length, 4);
  for (const [sampler, count] of [
    ['ddim', 10], // where the published program fails
    ['dpm++_m2', 9],
    ['edm_dpm++_3m_sde', 9],
    ['edm_heun', 9],
  ] as const)
    assert.is((await planned({ sampler, steps: 9 })).length, count, sampler);
  const [first, ...rest] = await planned({ sampler: 'spaced', steps: 5, cfg: 4, rescaleCfg: true });
  assert.equal([first.sigma, first.cfg, rest.at(-1)!.cfg], [Number.POSITIVE_INFINITY, 1, 5]);
  assert.equal(await CLEANER.steps(CLEANER.plain, CLEANER.published), []);
});

test('a trace takes activations of both networks and what attention compares, and the result stays', async () => {
  const seen: Record<string, number[]>[] = [];
  const heads = new Map<string, number>();
  const trace: Tap = {
    wanted: (name, isBlock) => isBlock && /^(control|base\.model\.diffusion_model)\.(input_blocks\.1|middle_block)$/.test(name),
    attention: (name, count) => Boolean(heads.set(name, count)) && name.includes('diffusion_model.input_blocks.1'),
    take: (tensors) => void seen.push(Object.fromEntries(Object.entries(tensors).map(([name, { shape }]) => [name, [...shape]]))),
  };
  const { image } = await restorer.restore(photo, options, { trace });
  assert.equal(image.data, undisturbed);
  const unet = 'base.model.diffusion_model';
  const layer = `${unet}.input_blocks.1.1.transformer_blocks.0.attn1`;
  assert.is(seen.length, 4);
  assert.equal(seen[0], {
    [`${unet}.input_blocks.1`]: [2, 8, 16, 8],
    [`${unet}.middle_block`]: [2, 1, 2, 16],
    'control.input_blocks.1': [2, 8, 16, 8],
    'control.middle_block': [2, 1, 2, 16],
    [`${layer}.q`]: [2, 8, 16, 8],
    [`${layer}.k`]: [2, 8, 16, 8],
  });
  assert.is(heads.get(layer), 1);
  await refused(restorer.restore(photo, options, { trace: { ...trace, wanted: () => false } }), /There are: .*control\.input_blocks\.1/);
});

test('LoRAs of Stable Diffusion 2 act in the names of kohya and of diffusers, and are taken off again', async () => {
  const draw = (shape: number[], seed: number) => ({
    dtype: 'F32' as const,
    shape,
    data: new TorchRandom(seed).randn(shape[0] * shape[1]),
  });
  const q = 'down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q';
  const v = 'text_model.encoder.layers.0.self_attn.v_proj';
  const pair = (name: (layer: string, up: boolean) => string) =>
    [q, v].flatMap((layer, i) => [[name(layer, false), draw([2, 8], i)] as const, [name(layer, true), draw([8, 2], 9 - i)] as const]);
  const flat = (text: string) => text.replaceAll('.', '_');
  const spellings = {
    'kohya.safetensors': pair((layer, up) => `lora_${layer === q ? 'unet' : 'te'}_${flat(layer)}.lora_${up ? 'up' : 'down'}.weight`),
    'peft.safetensors': pair((layer, up) => `${layer === q ? 'unet' : 'text_encoder'}.${layer}.lora_${up ? 'B' : 'A'}.weight`),
  };
  const results: Uint8Array[] = [];
  for (const [name, entries] of Object.entries(spellings)) {
    files.files.set(name, encodeSafetensors(entries));
    const handle = await restorer.addLora({ path: name, scale: 1 });
    assert.equal(handle.notes, []);
    results.push((await restorer.restore(photo, options)).image.data);
    await restorer.model.removeLora(handle);
  }
  assert.equal(results[1], results[0]);
  assert.not.equal(results[0], undisturbed);
  assert.equal((await restorer.restore(photo, options)).image.data, undisturbed);
});

test('options that do not go together are refused by name', async () => {
  const refuses = async (given: Record<string, unknown>, message: RegExp) =>
    refused(restorer.restore(photo, { ...options, ...given }), message);
  await refuses({ guidance: 'mse', sampler: 'ddim' }, /spaced alone/);
  await refuses({ guidance: 'w_mse', guidanceSpace: 'latent' }, /no weights/);
  await refuses({ tile: 12 }, /multiple of 8/);
  await refuses({ sampler: 'dpm++_m2', steps: 1 }, /dpm\+\+_m2 needs 2 steps/);
  await refuses({ sampler: 'edm' }, /'sampler' is 'edm'.*spaced/);
  await refuses({ sampler: 'dpm++_s2' }, /'sampler' is 'dpm\+\+_s2'.*dpm\+\+_m2/);
  await refuses({ restoreCfg: 4 }, /no option 'restoreCfg'/);
});

test('what a folder lacks, or holds in its place, is told by name', async () => {
  const whole = await tinyDiffBirFiles(TINY_SWINIR);
  const sdxl = encodeSafetensors([
    ['conditioner.embedders.1.model.ln_final.weight', { dtype: 'F32', shape: [1], data: new Float32Array(1) }],
  ]);
  const one = encodeSafetensors([['cond_stage_model.transformer.x.weight', { dtype: 'F32', shape: [1], data: new Float32Array(1) }]]);
  const cases: [without: string[], more: [string, Uint8Array<ArrayBuffer>][], message: RegExp][] = [
    [['base.safetensors'], [], /no base for DiffBIR.*v2-1_512-ema-pruned/],
    [['base.safetensors'], [['xl.safetensors', sdxl]], /xl\.safetensors \(It is a .*SDXL/],
    [['base.safetensors'], [['sd15.safetensors', one]], /sd15\.safetensors \(It is a checkpoint of Stable Diffusion 1\.5/],
    [['base.safetensors'], [['v2-1_768-ema-pruned.safetensors', whole.get('base.safetensors')!]], /for 768 pixels by its name/],
    [['control.safetensors'], [], /no IRControlNet.*v2\.pth/],
    [['cleaner.safetensors'], [], /no cleaner for DiffBIR.*BSRNet\.pth/],
    [['config.json'], [], /is not Stable Diffusion 2\.1 of these sizes/],
    [[], [['other.safetensors', whole.get('control.safetensors')!]], /holds the IRControlNet twice/],
  ];
  for (const [without, more, message] of cases) {
    const folder = new MemoryFiles();
    for (const [name, bytes] of [...whole, ...more]) if (!without.includes(name)) folder.files.set(`m/${name}`, bytes);
    await refused(DIFFBIR.open(restorer.device, folder, 'm', {}), message);
  }
  // A base or an IRControlNet alone is of this method too, in a folder or as a file, and is told what it lacks.
  for (const [part, message] of [
    ['base', /no IRControlNet/],
    ['control', /no base for DiffBIR/],
  ] as const) {
    const folder = new MemoryFiles();
    folder.files.set(`m/${part}.safetensors`, whole.get(`${part}.safetensors`)!);
    for (const path of ['m', `m/${part}.safetensors`])
      await refused(Restorer.load(hostOf(folder), path, [], { methods: METHODS }), message);
  }
  const folder = new MemoryFiles();
  for (const [name, bytes] of whole) folder.files.set(`m/${name}`, bytes);
  folder.files.set('one.safetensors', sdxl);
  await refused(Restorer.load(hostOf(folder), 'm', [], { methods: [SUPIR] }), /config\.json is of a model of the method DiffBIR/);
  await refused(Restorer.load(hostOf(folder), 'one.safetensors', [], { methods: METHODS }), /is one file \(a .*SDXL.*give a folder/);
});

test('of a folder, only the files that the model reads stay open, and none when it is closed', async () => {
  const folder = new MemoryFiles();
  for (const [name, bytes] of await tinyDiffBirFiles(TINY_RRDB)) folder.files.set(`m/${name}`, bytes);
  folder.files.set('m/note.safetensors', encodeSafetensors([['x', { dtype: 'F32', shape: [1], data: new Float32Array(1) }]]));
  const open = new Map<string, number>();
  const access = {
    list: (path: string) => folder.list(path),
    async fileSource(path: string) {
      const source = await folder.fileSource(path);
      open.set(path, (open.get(path) ?? 0) + 1);
      return { ...source, close: async () => void open.set(path, open.get(path)! - 1) };
    },
  };
  const left = () => [...open].filter(([, count]) => count > 0).map(([path, count]) => `${path} ${count}`);
  await DIFFBIR.recognises(access, 'm');
  await CLEANER.config(access, 'm');
  assert.equal(left(), []);
  const model = await DIFFBIR.open(restorer.device, access, 'm', {});
  assert.equal(left().sort(), ['m/base.safetensors 1', 'm/cleaner.safetensors 1', 'm/control.safetensors 1']);
  await model.close();
  const cleaner = await CLEANER.open(restorer.device, access, 'm', {});
  assert.equal(left(), ['m/cleaner.safetensors 1']);
  await cleaner.close();
  assert.equal(left(), []);
});

test('a pair that cannot work together is warned of by the names, and what the person says counts', async () => {
  const all = await tinyDiffBirFiles(TINY_RRDB);
  const said = async (base: string, control: string) => {
    const folder = new MemoryFiles();
    const { base: sizes, files: names } = JSON.parse(new TextDecoder().decode(all.get('config.json')));
    folder.files.set('m/config.json', new TextEncoder().encode(JSON.stringify({ method: 'DiffBIR', base: sizes, files: names })));
    for (const name of ['tokenizer.json', 'cleaner.safetensors']) folder.files.set(`m/${name}`, all.get(name)!);
    folder.files.set(`m/${base}`, all.get('base.safetensors')!);
    folder.files.set(`m/${control}`, all.get('control.safetensors')!);
    const model = await DIFFBIR.open(restorer.device, folder, 'm', {});
    const { steps } = DIFFBIR.choose({}, model.config);
    const by = model.calls({ parameterization: 'v' }).diffusion.parameterization;
    await model.close();
    return [model.config.parameterization, steps, model.warnings.map(({ code }) => code), by];
  };
  assert.equal(await said('v2-1_512-ema-pruned.safetensors', 'v2.safetensors'), ['eps', 50, [], 'v']);
  assert.equal(await said('sd2.1-base-zsnr-laionaes5.safetensors', 'DiffBIR_v2.1.safetensors'), ['v', 10, [], 'v']);
  assert.equal(await said('sd2.1-base-zsnr-laionaes5.safetensors', 'v2.safetensors'), ['v', 10, ['mismatched-pair'], 'v']);
  assert.equal(await said('x.safetensors', 'v1_general.safetensors'), ['eps', 50, [], 'v']);
  assert.equal(await said('x.safetensors', 'y.safetensors'), ['eps', 50, ['parameterization-unknown'], 'v']);
});

/** RRDBNet's names as Real-ESRGAN and as the first ESRGAN have them. */
const SPELLINGS: [name: string, to: (name: string) => string][] = [
  ['BSRNet', (name) => name],
  [
    'Real-ESRGAN',
    (name) =>
      name
        .replace(/^RRDB_trunk\.(\d+)\.RDB(\d)/, 'body.$1.rdb$2')
        .replace('trunk_conv', 'conv_body')
        .replace('upconv', 'conv_up')
        .replace('HRconv', 'conv_hr'),
  ],
  [
    'ESRGAN',
    (name) =>
      name
        .replace('conv_first', 'model.0')
        .replace(/^RRDB_trunk\.(\d+)\.(RDB\d\.conv\d)\./, 'model.1.sub.$1.$2.0.')
        .replace('trunk_conv', 'model.1.sub.2')
        .replace('upconv1', 'model.3')
        .replace('upconv2', 'model.6')
        .replace('HRconv', 'model.8')
        .replace('conv_last', 'model.10'),
  ],
];

const opened = (entries: Parameters<typeof encodeSafetensors>[0]) =>
  openSafetensors(bytesSource('x.safetensors', encodeSafetensors(entries)));

test('cleaners are known by their names in every spelling, with their sizes; what follows from the sizes is passed over', async () => {
  const scales = [1, 2, 4, 8].map((scale): CleanerConfig => ({ ...TINY_RRDB, scale }) as CleanerConfig);
  // Networks that enlarge by less, or not at all, and read pixel by pixel all the same.
  const plain = [1, 2].map((scale): CleanerConfig => ({ ...TINY_RRDB, scale, unshuffle: 1 }) as CleanerConfig);
  for (const config of [...scales, ...plain, TINY_SWINIR, TINY_SCUNET]) {
    const entries = randomWeights(cleanerOf(config));
    const derived = ['layers.0.residual_group.blocks.1.attn_mask', 'layers.0.residual_group.blocks.0.attn.relative_position_index'];
    const more =
      config.kind === 'swinir'
        ? derived.map((name) => [name, { dtype: 'F32' as const, shape: [1], data: new Float32Array(1) }] as const)
        : [];
    const { cleaner, refusal } = diffBirFile(await opened([...entries, ...more]));
    assert.equal([cleaner?.config, refusal], [config, undefined], cleanerTitle(config));
    assert.equal(cleaner!.file.names().sort(), entries.map(([name]) => name).sort());
  }
  for (const [spelling, to] of SPELLINGS) {
    const entries = randomWeights(cleanerOf(TINY_RRDB));
    const { cleaner } = diffBirFile(await opened(entries.map(([name, value]) => [to(name), value] as const)));
    assert.equal(cleaner?.config, TINY_RRDB, spelling);
    for (const [name, { data }] of entries) assert.equal(await cleaner!.file.f32(name), data, `${spelling}: ${name}`);
  }
  // The first ESRGAN numbers its layers through: fewer of them where it enlarges by 2, or not.
  for (const [scale, numbers] of [
    [1, { HRconv: 'model.2', conv_last: 'model.4' }],
    [2, { upconv1: 'model.3', HRconv: 'model.5', conv_last: 'model.7' }],
  ] as const) {
    const config = { ...TINY_RRDB, scale, unshuffle: 1 } as CleanerConfig;
    const entries = randomWeights(cleanerOf(config));
    const renamed = (name: string) => Object.entries(numbers).reduce((all, [from, to]) => all.replace(from, to), name);
    const numbered = entries.map(([name, value]) => [SPELLINGS[2][1](renamed(name)), value] as const);
    const { cleaner } = diffBirFile(await opened(numbered));
    assert.equal(cleaner?.config, config);
    for (const [name, { data }] of entries) assert.equal(await cleaner!.file.f32(name), data, `x${scale}: ${name}`);
  }
});

test('a file of 2023 that holds everything is taken apart', async () => {
  const networks = new DiffBir(await tinyBase(), cleanerOf(TINY_SWINIR));
  const all = [
    ...randomWeights(networks.base),
    ...randomWeights(networks.control).map(([name, value]) => [`control_model.${name}`, value] as const),
    ...randomWeights(networks.cleaner!).map(([name, value]) => [`preprocess_model.${name}`, value] as const),
    ...randomWeights(networks.base.first_stage_model.encoder).map(([name, value]) => [`cond_encoder.encoder.${name}`, value] as const),
  ];
  const found = diffBirFile(await opened(all.map(([name, value]) => [`module.${name}`, value] as const)));
  assert.is(diffBirTitle(found), 'part of DiffBIR: Stable Diffusion 2, IRControlNet, cleaner SwinIR');
  assert.is(found.control!.has('zero_convs.0.0.weight'), true);
  assert.equal(found.cleaner!.config, TINY_SWINIR);
  assert.equal(
    found.base!.names().sort(),
    randomWeights(networks.base)
      .map(([name]) => name)
      .sort(),
  );
});

test('a folder as one file, a base in folders of diffusers, and both in blocks of 8 bits open as the same model', async () => {
  const base = await tinyBase();
  base.unet = { ...base.unet, model_channels: 32, num_head_channels: 32, context_dim: 32, norm_groups: 8 };
  base.text = { ...base.text, dim: 32, inter: 32 };
  const networks = new DiffBir(base, cleanerOf(TINY_RRDB));
  const parts = await Promise.all([networks.base, networks.control, networks.cleaner!].map((part, i) => opened(randomWeights(part, i))));
  const folderOf = (files: Record<string, Uint8Array<ArrayBuffer>>) => {
    const folder = new MemoryFiles();
    const config = { method: 'DiffBIR', parameterization: 'v', base, files: { tokenizer: 'tokenizer.json' } };
    folder.files.set('m/config.json', new TextEncoder().encode(JSON.stringify(config)));
    folder.files.set('m/tokenizer.json', Uint8Array.from(tokenizer));
    for (const [name, bytes] of Object.entries(files)) folder.files.set(`m/${name}`, bytes);
    return folder;
  };
  const tokenizer = await projectFile('demo/tokenizer.json');
  const whole = joinedDiffBir(parts)!;
  const names = parts[0].names();
  const inDiffusers = (rules: Rule[]) => convertedBytes(toOther(parts[0], rules), 'F32');
  const others = {
    'control.pth.safetensors': await convertedBytes(parts[1], 'F32'),
    'x4.safetensors': await convertedBytes(parts[2], 'F32'),
  };
  const forms: Record<string, MemoryFiles> = {
    'one file': folderOf({ 'all.safetensors': await convertedBytes(whole, 'F32') }),
    diffusers: folderOf({
      'unet/diffusion_pytorch_model.safetensors': await inDiffusers(unetRules(names)),
      'vae/diffusion_pytorch_model.safetensors': await inDiffusers(vaeRules(names)),
      'text_encoder/model.safetensors': await inDiffusers(openClipRules(names, 'cond_stage_model.model')),
      ...others,
    }),
    q8: folderOf({ 'all.safetensors': await convertedBytes(whole, 'Q8') }),
  };
  for (const [form, folder] of Object.entries(forms)) {
    assert.ok(await DIFFBIR.recognises(folder, 'm'), form);
    assert.equal((await DIFFBIR.config(folder, 'm')).base, base, form);
    const model = await DIFFBIR.open(restorer.device, folder, 'm', {});
    const dtypes = new Set<string>();
    for (const [i, part] of [model.networks.base, model.networks.control, model.networks.cleaner!].entries()) {
      for (const [name] of parameters(part)) {
        const stored = await parts[i].f32(name);
        const read = await model.checkpoint.f32(name);
        dtypes.add(model.checkpoint.info(name).dtype);
        const most = stored.reduce((all, value) => Math.max(all, Math.abs(value)), 0);
        const apart = stored.reduce((all, value, k) => Math.max(all, Math.abs(value - read[k])), 0);
        assert.ok(apart <= (form === 'q8' ? most / 100 : 0), `${form}: ${name} ${apart} of ${most}`);
      }
    }
    assert.equal([...dtypes].sort(), form === 'q8' ? ['F16', 'Q8'] : ['F32'], form);
    await model.close();
  }
  const restored: { image: Image; peak: number }[] = [];
  const short = { ...options, sampler: 'spaced', steps: 1, cfg: 1 };
  for (const form of ['one file', 'q8']) {
    const opened = await Restorer.load(hostOf(forms[form]), 'm', [], { methods: METHODS });
    const { image } = await opened.restore(photo, short);
    restored.push({ image, peak: opened.device.memory.peak });
    await opened.close();
  }
  const [full, small] = restored;
  const likeness = psnr(small.image, full.image);
  assert.ok(likeness > 30 && likeness < 70, `${likeness} dB`);
  assert.ok(small.peak < full.peak, `${small.peak} bytes, ${full.peak} in full`);
});

test('what files are together is told by the first method whose model they make, and a cleaner beside SUPIR makes it no other', async () => {
  const networks = new DiffBir(await tinyBase(), cleanerOf(TINY_RRDB));
  const file = async (root: object, name: string) => openSafetensors(bytesSource(name, encodeSafetensors(randomWeights(root))));
  const base = await file(networks.base, 'base.safetensors');
  const control = await file(networks.control, 'control.safetensors');
  const cleaner = await file(networks.cleaner!, 'x4.safetensors');
  const seen = (...given: TensorFile[]) => {
    const { method, missing, files, usable } = inspection(given);
    return [method, missing, usable, files.map(({ refusal }) => refusal)] as const;
  };
  assert.equal(seen(base, control, cleaner), ['DiffBIR', null, 3, [null, null, null]]);
  assert.equal(seen(cleaner), ['clean', null, 1, [null]]);
  const [method, missing] = seen(base, control);
  assert.is(method, null);
  assert.match(missing!, /^DiffBIR lacks a cleaner \(.*BSRNet\.pth/);
  assert.match(seen(cleaner, control)[1]!, /^DiffBIR lacks Stable Diffusion 2\.1 base/);
  const supir = await Promise.all(
    ['sdxl', 'supir'].map(async (name) => openSafetensors(bytesSource(name, await projectFile(`demo/${name}.safetensors`)))),
  );
  assert.equal(seen(...supir, cleaner).slice(0, 3), ['SUPIR', null, 3]);
  assert.match(seen()[1]!, /SDXL model is missing/);
  const folder = new MemoryFiles();
  for (const name of ['sdxl', 'supir'])
    folder.files.set(`m/${name}.safetensors`, Uint8Array.from(await projectFile(`demo/${name}.safetensors`)));
  folder.files.set('m/x4.safetensors', encodeSafetensors(randomWeights(networks.cleaner!)));
  assert.is((await methodOf(METHODS, hostOf(folder), 'm')).name, 'SUPIR');
  assert.is(
    (
      await methodOf(
        METHODS.filter(({ name }) => name === 'clean'),
        hostOf(folder),
        'm',
      )
    ).name,
    'clean',
  );
});

test('a cleaner alone enlarges by its own factor or another, whole or in tiles, whatever the sides are', async () => {
  const two = { ...TINY_RRDB, scale: 2 } as CleanerConfig;
  const [, to] = SPELLINGS[1];
  files.files.set('x2.safetensors', encodeSafetensors(randomWeights(cleanerOf(two)).map(([name, value]) => [to(name), value] as const)));
  const cleaner = await Restorer.load(hostOf(files), 'x2.safetensors', [], { methods: METHODS });
  try {
    assert.is(cleaner.method.name, 'clean');
    const odd: Image = { width: 21, height: 17, data: photo.data.slice(0, 21 * 17 * 3) };
    const { image } = await cleaner.restore(odd, {});
    assert.equal([image.width, image.height], [42, 34]);
    const { networks: net, device } = cleaner.model;
    const float = { width: 21, height: 17, channels: 3, data: Float32Array.from(odd.data, (value) => value / 255) };
    const direct = await cleanWith(device, { net: net as never, config: two }, float);
    const apart = direct.data.reduce(
      (most, value, i) => Math.max(most, Math.abs(Math.min(255, Math.max(0, 255 * value)) - image.data[i])),
      0,
    );
    assert.ok(apart <= 0.51, `${apart} levels apart`);
    const larger = await cleaner.restore(odd, { upscale: 3 } as object);
    assert.equal([larger.image.width, larger.image.height], [63, 51]);
    const tiled = await cleaner.restore(odd, { cleanerTile: 16 } as object);
    assert.equal([tiled.image.width, tiled.image.height], [42, 34]);
    assert.is(cleaner.forecast(odd, { cleanerTile: 16 } as object).stages[0].runs, 4);
  } finally {
    await cleaner.close();
  }
});

test.run();
