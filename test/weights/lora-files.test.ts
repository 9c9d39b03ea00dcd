/** LoRA files as programs write them, and as an enemy would: DoRA on every kind, alphas in headers, names, passengers, values that are none, sizes. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { Parameter } from '../../core/module.ts';
import { sampler, type Values } from '../../verify/sample.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { denseChange, type ReadLoraOptions, readLora } from '../../weights/lora.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { inBounds } from '../support/bounds.ts';

const draw = sampler(5);
const Q = 'model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q';
const q = 'lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q';
/** Square ones, where the shape of a magnitude alone does not tell rows from columns. */
const BASES: Record<string, Values> = {
  'model.diffusion_model.proj': draw([8, 12]),
  'model.diffusion_model.square': draw([6, 6]),
  'model.diffusion_model.conv': draw([8, 6, 3, 3]),
  'model.diffusion_model.even': draw([6, 6, 3, 3]),
  [Q]: draw([4, 4]),
  // Levels and blocks are counted from these.
  'model.diffusion_model.input_blocks.3.0.op': draw([2, 2, 3, 3]),
  'conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1': draw([4, 4]),
  'conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc': draw([4, 4]),
};
const weights = Object.entries(BASES).map(([name, { shape, data }]) => {
  const parameter = new Parameter(shape, shape.length === 4 ? 'conv' : 'matrix');
  parameter.name = `${name}.weight`;
  parameter.source = { read: async () => Float32Array.from(data), readRows: () => Promise.reject(new Error('no rows')) };
  return parameter;
});

const empty = (...shape: number[]): Values => ({ shape, data: new Float64Array(0) });

type Tensors = Record<string, Values | number>;

const read = async (tensors: Tensors, options: ReadLoraOptions = {}, metadata: Record<string, string> = {}) => {
  const entries = Object.entries(tensors).map(([name, tensor]) => {
    const { shape, data } = typeof tensor === 'number' ? { shape: [], data: [tensor] } : tensor;
    return [name, { dtype: 'F32' as const, shape, data: Float32Array.from(data) }] as const;
  });
  return readLora(await openSafetensors(bytesSource('given.safetensors', encodeSafetensors(entries, metadata))), weights, options);
};

async function refused(
  tensors: Tensors,
  text: RegExp,
  options: ReadLoraOptions = {},
  metadata: Record<string, string> = {},
): Promise<void> {
  const error = await read(tensors, options, metadata).then(
    () => assert.unreachable(`expected ${text}`),
    (thrown) => thrown,
  );
  assert.instance(error, UserError);
  assert.match(error.message, text);
  assert.ok(error.message.length < 1500, 'a message, not a file');
}

const close = (actual: ArrayLike<number>, expected: ArrayLike<number>, what: string) => {
  assert.is(actual.length, expected.length, what);
  const apart = Math.max(...Array.from(actual, (value, i) => Math.abs(value - expected[i])));
  assert.ok(apart < 1e-5, `${what}: ${apart}`);
};

/** m (W + D) / |W + D| - W by plain loops, lengths over all but the rows' or columns' axis. */
function weighted(w: Values, delta: ArrayLike<number>, m: ArrayLike<number>, by: 'row' | 'column'): number[] {
  const [, ins] = w.shape;
  const taps = w.shape.slice(2).reduce((a, b) => a * b, 1);
  const line = (i: number) => (by === 'row' ? Math.floor(i / (ins * taps)) : Math.floor(i / taps) % ins);
  const sum = Array.from(w.data, (value, i) => value + delta[i]);
  return sum.map((value, i) => {
    let square = 0;
    for (const [j, other] of sum.entries()) if (line(j) === line(i)) square += other * other;
    return (m[line(i)] * value) / Math.sqrt(square) - w.data[i];
  });
}

test("DoRA's magnitude counts for LoHa, LoKr, windows and plain factors, by rows and by columns", async () => {
  for (const [layer, base] of [
    ['proj', BASES['model.diffusion_model.proj']],
    ['square', BASES['model.diffusion_model.square']],
    ['conv', BASES['model.diffusion_model.conv']],
    ['even', BASES['model.diffusion_model.even']],
  ] as const) {
    const [o, i, ...window] = base.shape;
    const taps = window.reduce((a, b) => a * b, 1);
    const kinds: Record<string, Tensors> = {
      LoRA: { 'lora_down.weight': draw([2, i, ...window]), 'lora_up.weight': draw([o, 2, ...window.map(() => 1)]), alpha: 3 },
      LoHa: {
        hada_w1_a: draw([o, 3]),
        hada_w1_b: draw([3, i * taps]),
        hada_w2_a: draw([o, 3]),
        hada_w2_b: draw([3, i * taps]),
        alpha: 2,
      },
      LoKr: { lokr_w1: draw([2, 3]), lokr_w2: draw([o / 2, i / 3, ...window]) },
      'LoKr in factors': { lokr_w1: draw([2, 3]), lokr_w2_a: draw([o / 2, 2]), lokr_w2_b: draw([2, (i / 3) * taps]), alpha: 5 },
      ...(taps > 1 && {
        'with a window': {
          hada_w1_a: draw([2, o]),
          hada_w1_b: draw([2, i]),
          hada_t1: draw([2, 2, ...window]),
          hada_w2_a: draw([2, o]),
          hada_w2_b: draw([2, i]),
          hada_t2: draw([2, 2, ...window]),
        },
      }),
    };
    for (const [kind, tensors] of Object.entries(kinds)) {
      const named = Object.fromEntries(Object.entries(tensors).map(([role, tensor]) => [`lora_unet_${layer}.${role}`, tensor]));
      const plain = await read(named);
      const delta = denseChange(plain.layers[0]);
      assert.ok(Math.max(...Array.from(delta, Math.abs)) > 0.01, kind);
      const ones = window.map(() => 1);
      for (const [by, name, m] of [
        ['row', 'dora_scale', draw([o, 1, ...ones], { mean: 3 })],
        ['column', 'dora_scale', draw([1, i, ...ones], { mean: 3 })],
        ['row', 'lora_magnitude_vector', taps > 1 ? draw([1, o, 1, 1], { mean: 3 }) : draw([o], { mean: 3 })],
        ['row', 'lora_magnitude_vector.default.weight', draw([1, o, ...ones], { mean: 3 })],
      ] as const) {
        const lora = await read({ ...named, [`lora_unet_${layer}.${name}`]: m });
        close(denseChange(lora.layers[0]), weighted(base, delta, m.data, by), `${layer}, ${kind}, ${name} by ${by}`);
      }
    }
  }
  const pair = { 'lora_unet_proj.lora_down.weight': draw([1, 12]), 'lora_unet_proj.lora_up.weight': draw([8, 1]) };
  await refused({ ...pair, 'lora_unet_proj.lora_magnitude_vector': draw([12]) }, /magnitude \(12\) fits neither rows nor columns/);
  await refused({ ...pair, 'lora_unet_proj.dora_scale': draw([8]), 'lora_unet_proj.lora_magnitude_vector': draw([8]) }, /one is too much/);
});

test('alpha is read from a tensor, else from the header or the configuration beside, by layer', async () => {
  const path = 'down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q';
  const pair = { [`unet.${path}.lora_A.weight`]: draw([4, 4]), [`unet.${path}.lora_B.weight`]: draw([4, 4]) };
  const at = async (settings: Record<string, unknown> | null, config?: object, tensors: Tensors = {}) => {
    const metadata: Record<string, string> = settings ? { lora_adapter_metadata: JSON.stringify(settings) } : {};
    const lora = await read({ ...pair, ...tensors }, config ? { config } : {}, metadata);
    return denseChange(lora.layers[0]);
  };
  const plain = await at(null);
  const times = (factor: number) => Array.from(plain, (value) => value * factor);
  close(await at({ 'unet.lora_alpha': 8, 'unet.r': 4 }), times(2), 'alpha 8 of rank 4');
  close(await at({ 'unet.lora_alpha': 8, 'unet.r': 4, 'unet.use_rslora': true }), times(4), 'rank-stabilised');
  close(await at({ 'unet.lora_alpha': 8, 'unet.alpha_pattern': { [path]: 6 } }), times(1.5), 'by the whole name');
  close(await at({ 'unet.lora_alpha': 8, 'unet.alpha_pattern': { 'attn1.to_q': 2, to_q: 12 } }), times(0.5), 'the first that fits');
  close(await at({ 'unet.lora_alpha': 8, 'unet.alpha_pattern': { _q: 2, '^to_q': 3 } }), times(2), 'no part of a name, and no beginning');
  close(await at({ 'unet.lora_alpha': 8, 'unet.alpha_pattern': { [`^${path}`]: 1 } }), times(0.25), 'the whole of it');
  close(await at({ 'text_encoder.lora_alpha': 8 }), plain, 'of another component');
  close(await at({ lora_alpha: 8, r: 4 }), times(2), 'of a file of one component');
  close(await at(null, { r: 4, lora_alpha: 2, peft_type: 'LORA', target_modules: ['to_q'] }), times(0.5), 'beside it');
  close(await at({ 'unet.lora_alpha': 8 }, undefined, { [`unet.${path}.alpha`]: 4 }), plain, 'a tensor says it');
  const peft = { [`base_model.model.${path}.lora_A.weight`]: draw([2, 4]), [`base_model.model.${path}.lora_B.weight`]: draw([4, 2]) };
  assert.match((await read(peft)).notes.join(), /does not say its alpha, which PEFT keeps in adapter_config\.json/);
  assert.equal((await read(peft, { config: { lora_alpha: 4, r: 2 } })).notes, []);
  const whole = { [`base_model.model.${path}.lokr_w1`]: draw([2, 2]), [`base_model.model.${path}.lokr_w2`]: draw([2, 2]) };
  const half = denseChange((await read(whole, { config: { peft_type: 'LOKR', r: 8, alpha: 4 } })).layers[0]);
  close(
    half,
    Array.from(denseChange((await read(whole)).layers[0]), (value) => value / 2),
    'PEFT scales whole factors too',
  );
  for (const [settings, text] of [
    [{ 'unet.lora_alpha': '8' }, /'lora_alpha' is 8, and must be a number/],
    [{ 'unet.lora_alpha': 8, 'unet.use_rslora': 1 }, /'use_rslora' is 1, and must be true or false/],
    [{ 'unet.alpha_pattern': [1] }, /'alpha_pattern' is \[1\], and must be an object/],
    [{ 'unet.alpha_pattern': { '(a+)+b': 1 } }, /names layers by the pattern \(a\+\)\+b/],
    [{ 'unet.alpha_pattern': { to_q: null } }, /gives to_q null/],
    [[1], /is a list, not an object/],
  ] as const)
    await refused(pair, text, {}, { lora_adapter_metadata: JSON.stringify(settings) });
  await refused(pair, /lora_adapter_metadata" is not JSON/, {}, { lora_adapter_metadata: '{' });
});

test('names of other programs are read, what lies beside is passed over, and what nobody reads is an error', async () => {
  const path = 'down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q';
  const kohya = path.replaceAll('.', '_');
  const [down, up] = [draw([1, 4]), draw([4, 1])];
  const expected = denseChange((await read({ [`${q}.lora_down.weight`]: down, [`${q}.lora_up.weight`]: up })).layers[0]);
  for (const [a, b] of [
    [`unet.${Q.slice(22)}.lora_down.weight`, `unet.${Q.slice(22)}.lora_up.weight`],
    [`lycoris_${kohya}.lora_down.weight`, `lycoris_${kohya}.lora_up.weight`],
    [`unet.${path}.lora_A.faces.weight`, `unet.${path}.lora_B.faces.weight`],
    [`lora_unet_${kohya}.lora_down.weight`, `lora_unet_${kohya.replace(/_to_q$/, '.to_q')}.lora_up.weight`],
    [`base_model.model.${path}.lora_A.weight`, `base_model.model.unet.${path}.lora_B.weight`],
    [`unet.base_model.model.${path}.lora_A.default_0.weight`, `unet.base_model.model.${path}.lora_B.default_0.weight`],
  ])
    close(denseChange((await read({ [a]: down, [b]: up })).layers[0]), expected, a);

  const pair = { [`${q}.lora_down.weight`]: down, [`${q}.lora_up.weight`]: up };
  for (const [passengers, text] of [
    [{ 'bundle_emb.some word.clip_l': draw([2, 4]) }, /1 of 3 tensors were passed over: embeddings of words.*bundle_emb\.some word/],
    [{ 'lora_te2_text_projection.lora_down.weight': draw([1, 4]), 'lora_te2_text_projection.alpha': 1 }, /2 of 4 tensors.*projections/],
    [{ 'text_encoder_2.text_projection.lora_A.weight': draw([1, 4]) }, /projections/],
  ] as const) {
    const lora = await read({ ...pair, ...passengers });
    assert.match(lora.notes.join(), text);
    close(denseChange(lora.layers[0]), expected, String(text));
  }
  for (const [name, text] of [
    ['lora_unet_out_0.w_norm', /changes of norms/],
    [`${q}.oft_blocks`, /orthogonal factors/],
    [`unet.${path}.oft_R.default.weight`, /orthogonal factors/],
    [`${q}.a1.weight`, /GLoRA/],
    [`${q}.on_input`, /\(IA\)/],
    [`${q}.diff`, /whole differences/],
    [`${q}.diff_b`, /whole differences/],
    [`unet.${path}.lora_B.bias`, /biases/],
  ] as const)
    await refused({ ...pair, [name]: draw([4, 4]) }, new RegExp(`1 of 3 tensors are .*${text.source}.*not supported`));
  for (const [tensors, text] of [
    [{ [`${q}.lokr_t2`]: draw([1, 1, 3, 3]) }, /lora_down\.weight, which LoKr does not read/],
    [{ [`${q}.hada_t1`]: draw([1, 1, 3, 3]) }, /lora_down\.weight, which LoHa does not read/],
    [{ [`unet.${path}.lora_A.weight`]: down }, /are both the down of/],
    [{ [`${q}.alpha`]: draw([2]) }, /has 2 values, and an alpha is one/],
    [{ [`${q}.lora_mid.weight`]: draw([1, 1]) }, /the ranks of .* differ/],
  ] as const)
    await refused({ ...pair, ...tensors } as Tensors, text);
  await refused({ [`${q}.alpha`]: 1 }, /but no down/);
  await refused({ [`${q}.lokr_w1`]: draw([2, 2]), [`${q}.lokr_w1_a`]: draw([2, 1]), [`${q}.lokr_w2`]: draw([2, 2]) }, /one is too much/);
  await refused({ [`${q}.lokr_w1`]: draw([1, 4]), [`${q}.lokr_w2`]: draw([1, 4]) }, /make \(1, 16\)/);
  await refused({ [`${q}.lora_down.weight`]: empty(0, 4), [`${q}.lora_up.weight`]: empty(4, 0) }, /which is no factor/);
});

test('a value that is not finite is found when the file is read, with file, tensor and element', async () => {
  const roles: Record<string, Values> = { lora_down: draw([2, 4]), lora_up: draw([4, 2]), dora_scale: draw([4]) };
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    for (const broken of Object.keys(roles)) {
      const tensors = Object.entries(roles).map(([role, { shape, data }]): [string, Values] => [
        `${q}.${role}${role === 'dora_scale' ? '' : '.weight'}`,
        { shape, data: Float64Array.from(data, (value, i) => (role === broken && i === 3 ? bad : value)) },
      ]);
      await refused(
        Object.fromEntries(tensors),
        new RegExp(`given\\.safetensors: element 3 of tensor ${q}\\.${broken}.* is (not a number|infinite)`),
      );
    }
    const kronecker = {
      [`${q}.lokr_w1`]: draw([2, 2]),
      [`${q}.lokr_w2`]: { shape: [2, 2], data: Float64Array.of(1, bad, 1, 1) },
    };
    await refused(kronecker, /element 1 of tensor .*lokr_w2/);
    await refused(
      { [`${q}.lora_down.weight`]: draw([2, 4]), [`${q}.lora_up.weight`]: draw([4, 2]), [`${q}.alpha`]: bad },
      /element 0 of .*alpha/,
    );
  }
  await refused(
    { [`${q}.lora_down.weight`]: draw([2, 4]), [`${q}.lora_up.weight`]: draw([4, 2], { std: 10 }), [`${q}.alpha`]: 3e38 },
    /go beyond f32/,
  );
});

test('factors whose product is larger than the weight are refused by their shapes: at once, in little memory', async () => {
  const zeros = (...shape: number[]) => ({ shape, data: new Float64Array(shape.reduce((a, b) => a * b, 1)) });
  const bombs: Tensors[] = [
    { lokr_w1: zeros(170, 170), lokr_w2: zeros(170, 170) },
    { lokr_w1: zeros(1000, 1000), lokr_w2: zeros(1000, 1000) },
    { lokr_w1: zeros(1000, 1), lokr_w2_a: zeros(1000, 1), lokr_w2_b: zeros(1, 1e6) },
    { lokr_w1: zeros(2, 2), lokr_w2_a: zeros(1, 1000), lokr_w2_b: zeros(1, 1000), lokr_t2: zeros(1, 1, 500, 500) },
    { hada_w1_a: zeros(28000, 1), hada_w1_b: zeros(1, 28000), hada_w2_a: zeros(4, 1), hada_w2_b: zeros(1, 4) },
    { hada_w1_a: zeros(4, 1), hada_w1_b: zeros(1, 4), hada_w2_a: zeros(1e6, 1), hada_w2_b: zeros(1, 1e6) },
    { 'lora_up.weight': zeros(30000, 1), 'lora_down.weight': zeros(1, 30000) },
    { 'lora_up.weight': zeros(4, 1), 'lora_mid.weight': zeros(1, 1, 700, 700), 'lora_down.weight': zeros(1, 4) },
  ];
  for (const bomb of bombs) {
    const tensors = Object.fromEntries(Object.entries(bomb).map(([role, tensor]) => [`${q}.${role}`, tensor]));
    await inBounds(() => refused(tensors, /is \(4, 4\)|\(4, 4\)/), { seconds: 2, megabytes: 100 });
  }
});

test.run();
