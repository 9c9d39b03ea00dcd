/** Recipes: those of today's and of former versions are read, and what is damaged is told by name. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { chooseOptions } from '../../restore/choose-options.ts';
import { DEFAULTS } from '../../restore/options.ts';
import { compareRecipes, parseRecipe, type Recipe } from '../../restore/recipe.ts';

/** As version 0.1.0 wrote it, with the names that options had then. */
const FORMER = {
  version: '0.1.0',
  model: { name: 'supir-demo', fingerprint: 'ab'.repeat(32) },
  loras: [{ name: 'faces.safetensors', scale: '0.2..1', fingerprint: 'cd'.repeat(32) }],
  adapter: 'llvmpipe (LLVM 15.0.7, 256 bits)',
  photo: { name: 'old.jpg', width: 64, height: 48, sha256: 'ef'.repeat(32) },
  options: {
    sampler: 'edm',
    steps: 12,
    cfg: 2,
    cfgStart: 1.5,
    control: 0.9,
    controlStart: 0,
    controlLinear: false,
    controlScalePerModule: [],
    ablate: [3],
    restoration: 4,
    churn: 7,
    sNoise: 1.003,
    seed: 99,
    rng: 'torch-cuda',
    tile: 64,
    tileStride: 32,
    vaeTiling: 'auto',
    vaeTileMib: 64,
    encoderTile: 512,
    decoderTile: 64,
    upscale: 2,
    minSize: 64,
    prompt: 'a lighthouse',
    tilePrompts: [],
    positive: '',
    negative: 'blurry',
    colorFix: 'adain',
    stage1Only: false,
  },
};

test('a recipe of a former version means what it meant', () => {
  const recipe = parseRecipe(JSON.stringify(FORMER), 'old.png');
  const { control, restoration, churn, ...same } = FORMER.options;
  assert.equal(recipe.options, { ...DEFAULTS, ...same, controlScale: control, restoreCfg: restoration, sChurn: churn, grey: 'free' });
  assert.equal({ ...recipe, options: 0 }, { ...FORMER, options: 0 });
  const config = { ...SUPIR_SDXL, recommended: { s_noise: 1.5, steps: 3 } };
  assert.equal(chooseOptions(recipe.options, config), recipe.options, 'whatever the model recommends now');
});

test('a recipe of this version comes back as it was', () => {
  const recipe: Recipe = {
    ...(FORMER as unknown as Recipe),
    options: { ...DEFAULTS, prompt: 'ü' },
    model: { ...FORMER.model, weights: 'q8' },
  };
  assert.equal(parseRecipe(JSON.stringify(recipe), 'x.png'), recipe);
});

test('what is damaged is told, in our words', () => {
  const refusesText = (text: string, why: RegExp) => {
    try {
      parseRecipe(text, 'x.png');
    } catch (error) {
      assert.instance(error, UserError);
      const { message } = error as Error;
      assert.match(message, why);
      assert.not.match(message, /undefined \(reading|is not a function|destructure|Unexpected|Invalid array/);
      assert.ok(message.length < 3000);
      return;
    }
    assert.unreachable(String(why));
  };
  /** The recipe with another value at a path. */
  const refuses = (path: string, value: unknown, why: RegExp) => {
    const recipe: unknown = structuredClone(FORMER);
    const keys = path.split('.');
    const last = keys.pop()!;
    let at = recipe as Record<string, unknown>;
    for (const key of keys) at = at[key] as Record<string, unknown>;
    at[last] = value;
    refusesText(JSON.stringify(recipe), why);
  };
  refusesText('{', /The recipe in x\.png is damaged: it is not JSON\. Give the options by hand/);
  refusesText('null', /it is null and must be an object/);
  refusesText('x'.repeat(3e6), /it has more than 2000000 characters/);
  refuses('options', null, /x\.png, the recipe: the options are null; they must be an object/);
  refuses('loras', null, /loras is null and must be a list/);
  refuses('loras', [null], /loras\[0\] is null and must be an object/);
  refuses('loras.0.scale', {}, /loras\[0\]\.scale is \{\} and must be a number or a text/);
  refuses('photo', undefined, /photo is undefined and must be an object/);
  refuses('photo.width', '\x1b[2J', /photo\.width is \\x1b\[2J and must be a whole number/);
  refuses('model.name', 5, /model\.name is 5 and must be a text/);
  refuses('model.weights', 'q2', /model\.weights is q2 and must be f16, q8 or q4/);
  refuses('options.ablate', 5, /x\.png, the recipe: the option 'ablate' is 5/);
  refuses('options.tilePrompts', 5, /'tilePrompts' is 5/);
  refuses('options.controlScalePerModule', 'abc', /'controlScalePerModule' is 'abc'/);
  refuses('options.stage1Only', 'false', /'stage1Only' is 'false'; it must be true or false/);
  refuses('options.later', 1, /there is no option 'later'/);
  refuses('options.prompt', 'y'.repeat(1e6), /'prompt' is 'yyy.*1000000 characters/);
  assert.throws(() => parseRecipe(undefined, 'x.png'), /carries no recipe/);
});

test('what stands in the way of the same picture is told, with a code', () => {
  const recipe = parseRecipe(JSON.stringify(FORMER), 'x.png');
  const code = (change: Partial<Recipe>) => {
    try {
      return compareRecipes({ ...recipe, ...change }, recipe).map((warning) => warning.code);
    } catch (error) {
      return (error as UserError).code;
    }
  };
  assert.equal(code({}), []);
  assert.is(code({ photo: { ...recipe.photo, sha256: 'other' } }), 'recipe-of-other-photo');
  assert.is(code({ model: { ...recipe.model, fingerprint: 'other' } }), 'recipe-of-other-model');
  assert.is(code({ model: { ...recipe.model, weights: 'q4' } }), 'recipe-of-other-weights');
  assert.is(code({ loras: [] }), 'recipe-of-other-loras');
  assert.equal(code({ adapter: 'other\x1b', version: '0.0.9' }), ['other-adapter', 'other-version']);
});

test.run();
