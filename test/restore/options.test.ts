import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SUPIR_SDXL } from '../../models/config.ts';
import { chooseOptions, DEFAULTS, type GivenOptions, PRESETS, recommendedByLora, unsuitable } from '../../restore/options.ts';

test('defaults, then the model’s recommendations, then the preset, then what is given', () => {
  const config = { ...SUPIR_SDXL, recommended: { steps: 12, s_churn: 3, tile: 64 } };
  assert.equal(chooseOptions({}, config), { ...DEFAULTS, steps: 12, churn: 3, tile: 64 });
  const chosen = chooseOptions({ preset: 'quality', cfg: 6 }, config);
  assert.equal([chosen.steps, chosen.cfg, chosen.cfgStart, chosen.churn, chosen.tile], [50, 6, 4, 5, 64]);
  assert.not('preset' in chosen, 'the options in force are numbers');
});

test('the presets are SUPIR’s', () => {
  const { quality, fidelity, lightning } = PRESETS;
  assert.equal([quality.cfg, quality.cfgStart, quality.sNoise], [7.5, 4, 1.003]);
  assert.equal([fidelity.cfg, fidelity.cfgStart, fidelity.sNoise], [4, 1, 1.003]);
  assert.equal([lightning.sampler, lightning.steps, lightning.cfg], ['dpmpp2m', 8, 2]);
  for (const preset of Object.keys(PRESETS)) chooseOptions({ preset } as GivenOptions, SUPIR_SDXL);
});

test('impossible options are named', () => {
  const refuses = (given: object, why: RegExp) => assert.throws(() => chooseOptions(given as GivenOptions, SUPIR_SDXL), why);
  refuses({ preset: 'best' }, /no preset 'best'.*quality, fidelity, lightning, fast/);
  refuses({ sampler: 'ddim' }, /'sampler' is 'ddim'.*edm, dpmpp2m, euler/);
  refuses({ rng: 'numpy' }, /'rng'/);
  refuses({ tile: 64, tileStride: 65 }, /leave gaps/);
  refuses({ tile: -1 }, /'tile'/);
});

test('a preset that does not suit the base is told', () => {
  const options = (given: GivenOptions) => chooseOptions(given, SUPIR_SDXL);
  const [base, lightning] = [
    ['sd_xl_base_1.0.safetensors', 'supir-sdxl'],
    ['Juggernaut_RunDiffusion_Lightning.safetensors', 'supir-sdxl'],
  ];
  for (const preset of ['quality', 'fidelity'] as const) {
    assert.is(unsuitable(options({ preset }), base), null);
    assert.match(unsuitable(options({ preset }), lightning)!, /Juggernaut.*lightning or fast/);
  }
  for (const preset of ['lightning', 'fast'] as const) {
    assert.is(unsuitable(options({ preset }), lightning), null);
    assert.match(unsuitable(options({ preset }), base)!, /sd_xl_base.*quality or fidelity/);
  }
  const four = ['sd_xl_base_1.0.safetensors', 'supir-sdxl', 'sdxl_lightning_4step_lora.safetensors'];
  const recommended = { ...SUPIR_SDXL, recommended: recommendedByLora(four[2]) };
  assert.equal(recommended.recommended, { sampler: 'euler', steps: 4, cfg: 1, cfg_start: 1 });
  assert.is(unsuitable(chooseOptions({}, recommended), four), null);
  assert.match(
    unsuitable(chooseOptions({ steps: 8 }, recommended), four)!,
    /4step_lora.* was distilled to 4 steps, and 8 were asked for.*--steps 4/,
  );
  assert.match(unsuitable(chooseOptions({ preset: 'quality' }, recommended), four)!, /4step_lora.*overdrives/);
  assert.equal(recommendedByLora('SDXL-Lightning.safetensors')?.steps, 8);
  assert.is(recommendedByLora('faces_20steps.safetensors'), undefined);
  assert.match(unsuitable(options({ preset: 'lightning', cfg: 7 }), lightning)!, /guidance scale of 7/);
});

test.run();
