import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { Checkpoint } from '../../weights/checkpoint.ts';
import { isIgnored, originOf } from '../../weights/layouts.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { elementCount } from '../../weights/tensor-file.ts';
import { projectFile } from '../support/fixtures.ts';

const f32 = (...values: number[]) => ({ dtype: 'F32' as const, shape: [values.length], data: Float32Array.from(values) });

const open = (...files: Record<string, ReturnType<typeof f32>>[]) =>
  Checkpoint.open(
    files.map((tensors, i) => bytesSource(['sdxl.safetensors', 'supir.safetensors'][i], encodeSafetensors(Object.entries(tensors)))),
  );

function message(action: () => void): string {
  try {
    action();
  } catch (error) {
    assert.instance(error, UserError);
    return (error as Error).message;
  }
  throw new Error('expected a UserError');
}

test('of two files with the same name the later one counts', async () => {
  const both = await open({ a: f32(1), b: f32(2) }, { b: f32(3, 4), c: f32(5) });
  assert.equal(both.keys(), ['a', 'b', 'c']);
  assert.equal([...(await both.f32('b'))], [3, 4]);
  assert.equal([...(await both.f16bits('a'))], [0x3c00]);
  assert.equal([...new Float32Array((await both.bytes('b', 4)).buffer)], [4]);
  assert.is(both.fileOf('a'), 'sdxl.safetensors');
  assert.is(both.fileOf('b'), 'supir.safetensors');
  assert.equal(both.info('b').shape, [2]);
  assert.match(
    message(() => both.fileOf('model.control_model.x')),
    /"model\.control_model\.x".*SUPIR file/,
  );
});

test('a checkpoint that fits, with passengers that are ignored by name', async () => {
  const c = await open({
    w: f32(1),
    'model.control_model.mask_LQ': f32(0),
    'conditioner.embedders.0.transformer.text_model.embeddings.position_ids': f32(0),
  });
  c.checkKeys(new Map([['w', [1]]]), isIgnored);
  assert.match(
    message(() => c.checkKeys(new Map([['w', [1]]]), () => false)),
    /2 tensors that the model does not have: model\.control_model\.mask_LQ in sdxl/,
  );
  assert.ok(isIgnored('conditioner.embedders.1.model.logit_scale'));
  assert.not(isIgnored('model.control_model.mask_LQ.weight'));
  assert.not(isIgnored('logit_scale'));
});

test('every mismatch is told at once, by name and file', async () => {
  const c = await open({ fits: f32(1), wrong: f32(1, 2), extra: f32(1) });
  const text = message(() =>
    c.checkKeys(
      new Map([
        ['fits', [1]],
        ['wrong', [2, 1]],
        ['lost', [1]],
        ['model.control_model.lost', [1]],
        ['model.diffusion_model.project_modules.0.lost', [1]],
        ['first_stage_model.denoise_encoder.lost', [1]],
        ['first_stage_model.encoder.lost', [1]],
      ]),
      isIgnored,
    ),
  );
  assert.match(text, /2 tensors missing that the SDXL file should hold: lost, first_stage_model\.encoder\.lost;/);
  assert.match(text, /3 tensors missing that the SUPIR file should hold: model\.control_model\.lost/);
  assert.match(text, /1 tensor of another shape than the model's: wrong is \[2\] in sdxl\.safetensors and \[2,1\] in the model/);
  assert.match(text, /1 tensor that the model does not have: extra in sdxl\.safetensors/);
  assert.is(originOf('model.diffusion_model.input_blocks.0.0.weight'), 'SDXL');
});

test('long lists are cut and counted', async () => {
  const c = await open({});
  const text = message(() => c.checkKeys(new Map(Array.from({ length: 25 }, (_, i) => [`t${i}`, [1]])), isIgnored));
  assert.match(text, /25 tensors missing.*: t0, t1, t2 and 22 more/);
  assert.not.match(text, /t10/);
});

test('NaN and infinity are found in f32 and in f16 bits', async () => {
  const c = await open({ w: f32(1) });
  c.assertFinite('w', Float32Array.of(1, -3e38, 0));
  c.assertFinite('w', Uint16Array.of(0x7bff, 0xfbff, 0));
  assert.match(
    message(() => c.assertFinite('w', Float32Array.of(1, Number.NaN))),
    /sdxl\.safetensors: element 1 of tensor "w" is not a number/,
  );
  assert.match(
    message(() => c.assertFinite('w', Float32Array.of(Number.NEGATIVE_INFINITY))),
    /element 0 .* infinite/,
  );
  assert.match(
    message(() => c.assertFinite('w', Uint16Array.of(0, 0xfc00))),
    /element 1 .* infinite/,
  );
  assert.match(
    message(() => c.assertFinite('w', Uint16Array.of(0x7e00))),
    /element 0 .* not a number/,
  );
});

test('the demo model: both files open, join without overlap and are finite throughout', async () => {
  const sources = await Promise.all(['sdxl', 'supir'].map(async (n) => bytesSource(n, await projectFile(`demo/${n}.safetensors`))));
  const [sdxl, supir] = await Promise.all(sources.map((source) => Checkpoint.open([source])));
  const parameters = (c: Checkpoint) => c.keys().reduce((n, name) => n + elementCount(c.info(name).shape), 0);
  assert.equal([sdxl.keys().length, parameters(sdxl)], [720, 4313116]);
  assert.equal([supir.keys().length, parameters(supir)], [410, 2487512]);
  const model = await Checkpoint.open(sources);
  assert.is(model.keys().length, 1130);
  for (const name of model.keys()) {
    assert.is(model.fileOf(name) === 'supir', originOf(name) === 'SUPIR', name);
    model.assertFinite(name, await model.f16bits(name));
  }
});

test.run();
