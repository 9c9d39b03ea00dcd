import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SUPIR_SDXL } from '../../models/config.ts';
import { chooseOptions, type GivenOptions } from '../../restore/choose-options.ts';
import { recommendedByLora, unsuitable } from '../../restore/few-step.ts';
import { DEFAULTS, type RestoreOptions } from '../../restore/options.ts';
import { PRESETS, presetsOf } from '../../restore/presets.ts';
import { plannedSteps } from '../../restore/sampling.ts';
import type { PlannedStep } from '../../sampler/planned.ts';

test('defaults, then the model’s recommendations, then the preset, then what is given', () => {
  const config = { ...SUPIR_SDXL, recommended: { steps: 12, s_churn: 3, tile: 64 } };
  assert.equal(chooseOptions({}, config), { ...DEFAULTS, steps: 12, sChurn: 3, tile: 64 });
  const chosen = chooseOptions({ preset: 'quality', cfg: 6 }, config);
  assert.equal([chosen.steps, chosen.cfg, chosen.cfgStart, chosen.sChurn, chosen.tile], [50, 6, 4, 5, 64]);
  assert.not('preset' in chosen, 'the options in force are numbers');
});

test('the presets are SUPIR’s', () => {
  const [quality, fidelity, lightning] = [PRESETS.quality.values, PRESETS.fidelity.values, PRESETS.lightning.values];
  assert.equal([quality.cfg, quality.cfgStart, quality.sNoise], [7.5, 4, 1.003]);
  assert.equal([fidelity.cfg, fidelity.cfgStart, fidelity.sNoise], [4, 1, 1.003]);
  assert.equal([lightning.sampler, lightning.steps, lightning.cfg], ['dpmpp2m', 8, 2]);
  for (const preset of Object.keys(PRESETS)) chooseOptions({ preset }, SUPIR_SDXL);
});

test('impossible options are named', () => {
  const refuses = (given: object, why: RegExp) => assert.throws(() => chooseOptions(given as GivenOptions, SUPIR_SDXL), why);
  refuses({ preset: 'best' }, /no preset 'best'.*quality, fidelity, lightning, fast/);
  refuses({ preset: 'constructor' }, /no preset 'constructor'/);
  refuses({ sampler: 'ddim' }, /'sampler' is 'ddim'.*edm, dpmpp2m, euler/);
  refuses({ rng: 'numpy' }, /'rng'/);
  refuses({ tile: 64, tileStride: 65 }, /leave gaps/);
  refuses({ tile: -1 }, /'tile'/);
});

test('values of the wrong type are refused by name, with what is right', () => {
  const refuses = (given: object, why: RegExp) => assert.throws(() => chooseOptions(given as GivenOptions, SUPIR_SDXL), why);
  refuses({ ablate: 5 }, /^The option 'ablate' is 5; it must be a list of integers from 0/);
  refuses({ ablate: [1, 0.5] }, /'ablate' is \[1,0\.5\]; it must be a list of integers/);
  refuses({ tilePrompts: 5 }, /'tilePrompts' is 5; it must be a list of texts/);
  refuses({ controlScalePerModule: 'abc' }, /'controlScalePerModule' is 'abc'; it must be a list of numbers from 0 to 2/);
  refuses({ stage1Only: 'false' }, /'stage1Only' is 'false'; it must be true or false/);
  refuses({ steps: '10' }, /'steps' is '10'; it must be an integer from 1 to 1000/);
  refuses({ steps: null }, /'steps' is null/);
  refuses({ prompt: 'x'.repeat(1e6) }, /'prompt' is 'x{120}\.\.\. \(1000000 characters\)'; it must be a text of at most/);
  refuses({ negative: ['a'] }, /'negative' is \["a"\]; it must be a text/);
  refuses({ rng: '\x1b[31m' }, /'rng' is '\\x1b\[31m'/);
  const recommends = (recommended: Record<string, unknown>, why: RegExp) =>
    assert.throws(() => chooseOptions({}, { ...SUPIR_SDXL, recommended }), why);
  recommends({ steps: 'many' }, /^config\.json, 'recommended': the option 'steps' is 'many'; it must be an integer/);
  recommends({ step: 5 }, /^config\.json, 'recommended': there is no option 'step'; there are: .*cfg_start/);
  recommends({ s_churn: 1, churn: 2 }, /'sChurn' is there twice/);
});

test('former and foreign spellings are read', () => {
  const recommended = { s_churn: 3, s_noise: 1, restore_cfg: 2, control_scale: 0.5, color_fix: 'adain', cfg_start: 2, tile_stride: 8 };
  const { sChurn, sNoise, restoreCfg, controlScale, colorFix, cfgStart, tileStride } = chooseOptions({}, { ...SUPIR_SDXL, recommended });
  assert.equal([sChurn, sNoise, restoreCfg, controlScale, colorFix, cfgStart, tileStride], [3, 1, 2, 0.5, 'adain', 2, 8]);
  const former = chooseOptions({ churn: 1, restoration: 4, control: 0.25, 'cfg-start': 3 } as GivenOptions, SUPIR_SDXL);
  assert.equal([former.sChurn, former.restoreCfg, former.controlScale, former.cfgStart], [1, 4, 0.25, 3]);
});

test('a model that brings presets has those and no others', () => {
  const presets = {
    soft: { help: 'closer to the photo', values: { steps: 5, s_churn: 1, restoration: 2 } },
    sharp: { help: 'more invented detail', values: { cfg: 5 } },
  };
  const config = { ...SUPIR_SDXL, name: 'own', presets };
  assert.equal(Object.keys(presetsOf(config)), ['soft', 'sharp']);
  assert.equal(presetsOf(config).soft.values, { steps: 5, sChurn: 1, restoreCfg: 2 });
  const { steps, sChurn, restoreCfg, cfg } = chooseOptions({ preset: 'soft', cfg: 3 }, config);
  assert.equal([steps, sChurn, restoreCfg, cfg], [5, 1, 2, 3]);
  assert.throws(() => chooseOptions({ preset: 'quality' }, config), /no preset 'quality' for the model own; there are: soft, sharp/);
  assert.throws(() => chooseOptions({ preset: 'soft' }, { ...config, presets: {} }), /it has none/);
  assert.match(
    unsuitable(chooseOptions({ sampler: 'euler', steps: 4 }, config), ['own'], config)!.message,
    /Take the preset soft or sharp\.$/,
  );
  const refuses = (preset: unknown, why: RegExp) => assert.throws(() => presetsOf({ ...config, presets: { bad: preset } }), why);
  refuses(3, /'presets\.bad' is a number; it must be an object with a help/);
  refuses({ values: {} }, /must be an object with a help/);
  refuses({ help: 'x', values: { steps: 0 } }, /config\.json, 'presets\.bad': the option 'steps' is 0/);
  refuses({ help: 'x', values: [] }, /the options are \[\]; they must be an object/);
});

test('noise is added again within a range of sigma', async () => {
  const steps = (given: GivenOptions) => plannedSteps(chooseOptions({ steps: 10, sChurn: 2, ...given }, SUPIR_SDXL));
  const noisy = (all: PlannedStep[]) => all.filter(({ sigma, sigmaHat }) => sigmaHat > sigma).length;
  const all = await steps({});
  assert.is(noisy(all), 10);
  assert.is(noisy(await steps({ sTmin: 1, sTmax: 5 })), all.filter(({ sigma }) => sigma >= 1 && sigma <= 5).length);
  assert.throws(() => chooseOptions({ sTmin: 2, sTmax: 1 }, SUPIR_SDXL), /from a sigma of 2 to one of 1 is none/);
});

test('a preset that does not suit the base is told', () => {
  const options = (given: GivenOptions) => chooseOptions(given, SUPIR_SDXL);
  const message = (chosen: RestoreOptions, names: readonly string[]) => unsuitable(chosen, names, SUPIR_SDXL)?.message ?? '';
  const [base, lightning] = [
    ['sd_xl_base_1.0.safetensors', 'supir-sdxl'],
    ['Juggernaut_RunDiffusion_Lightning.safetensors', 'supir-sdxl'],
  ];
  for (const preset of ['quality', 'fidelity'] as const) {
    assert.is(unsuitable(options({ preset }), base, SUPIR_SDXL), null);
    assert.match(message(options({ preset }), lightning), /Juggernaut.*lightning or fast/);
  }
  for (const preset of ['lightning', 'fast'] as const) {
    assert.is(unsuitable(options({ preset }), lightning, SUPIR_SDXL), null);
    assert.match(message(options({ preset }), base), /sd_xl_base.*quality or fidelity/);
  }
  const four = ['sd_xl_base_1.0.safetensors', 'supir-sdxl', 'sdxl_lightning_4step_lora.safetensors'];
  const recommended = { ...SUPIR_SDXL, recommended: recommendedByLora(four[2]) };
  assert.equal(recommended.recommended, { sampler: 'euler', steps: 4, cfg: 1, cfg_start: 1 });
  assert.is(unsuitable(chooseOptions({}, recommended), four, recommended), null);
  assert.match(
    message(chooseOptions({ steps: 8 }, recommended), four),
    /4step_lora.* was distilled to 4 steps, and 8 were asked for.* than with 4 steps\.$/,
  );
  assert.match(message(chooseOptions({ preset: 'quality' }, recommended), four), /4step_lora.*overdrives/);
  assert.equal(recommendedByLora('SDXL-Lightning.safetensors')?.steps, 8);
  assert.is(recommendedByLora('faces_20steps.safetensors'), undefined);
  assert.match(message(options({ preset: 'lightning', cfg: 7 }), lightning), /guidance scale of 7/);
});

test.run();
