/** The size of a result: by a factor, sides, a long side or megapixels; what goes together, and what of a photo fills a size. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { preparedSizes } from '../../image/prepare.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { fits, parseText } from '../../options/schema.ts';
import { chooseFrom, chooseOptions } from '../../restore/choose-options.ts';
import { cleanedSizes } from '../../restore/cleaning.ts';
import { DIFFBIR_OPTIONS, DIFFBIR_PRESETS } from '../../restore/diffbir-options.ts';
import { DEFAULTS, OPTIONS, type RestoreOptions } from '../../restore/options.ts';
import { framed } from '../../restore/target-size.ts';

const options = (given: Partial<RestoreOptions>) => ({ ...DEFAULTS, ...given });
const resultOf = (width: number, height: number, given: Partial<RestoreOptions>) => {
  const { box, framed: photo } = framed({ width, height }, options(given));
  return { box, ...photo.result };
};

test('a size is typed as 2048x1365, and nothing else is one', () => {
  assert.is(parseText(OPTIONS.size, '2048x1365'), '2048x1365');
  for (const good of ['1x1', '16384X16384', ' 20x30 ']) assert.ok(fits(OPTIONS.size, good), good);
  for (const bad of ['2048', '2048x', '0x5', '-1x5', '1.5x2', '16385x1', '99999999x1', 'x', '', 5])
    assert.not.ok(fits(OPTIONS.size, bad), String(bad));
  assert.throws(() => parseText(OPTIONS.size, 'large'), /a width and a height in pixels, such as 2048x1365, each from 1 to 16384/);
});

test('a long side, megapixels and a size decide both sides, in the photo’s proportions', () => {
  const whole = { x: 0, y: 0, width: 300, height: 200 };
  assert.equal(resultOf(300, 200, { longSide: 1000 }), { box: whole, width: 1000, height: 667 });
  assert.equal(resultOf(300, 200, { megapixels: 0.24 }), { box: whole, width: 600, height: 400 });
  assert.equal(resultOf(300, 200, { size: '900x500' }), { box: whole, width: 750, height: 500 });
  assert.equal(resultOf(300, 200, {}), { box: whole }, 'the factor decides');
  // Off by less than a pixel of the photo: exactly what was asked for.
  assert.equal(resultOf(1024, 683, { size: '2048x1365' }).width, 2048);
  assert.equal(resultOf(1024, 683, { size: '2048x1365' }).height, 1365);
  assert.equal(resultOf(4000, 3, { longSide: 100 }).height, 1);
  assert.throws(() => resultOf(300, 200, { megapixels: 100.1 }), /the result: .* is too large/);
});

test('filling a size takes the middle of the photo', () => {
  assert.equal(resultOf(300, 200, { size: '400x400', fill: true }), {
    box: { x: 50, y: 0, width: 200, height: 200 },
    width: 400,
    height: 400,
  });
  assert.equal(resultOf(200, 301, { size: '100x100', fill: true }).box, { x: 0, y: 50, width: 200, height: 200 });
});

test('the networks work at the size that the result needs, and at no less than they want', () => {
  const of = (result: { width: number; height: number }) => preparedSizes(300, 200, { result, minSize: 256 });
  assert.equal(of({ width: 750, height: 500 }), { width: 768, height: 512, width0: 750, height0: 500 });
  assert.equal(of({ width: 75, height: 50 }), { width: 384, height: 256, width0: 75, height0: 50 });
  const rrdb = { kind: 'rrdb' as const, scale: 4, channels: 8, blocks: 1, growth: 4 };
  const cleaning = { upscale: 4, cleanerEnlarges: true, minSide: 64 };
  const sizes = cleanedSizes({ width: 30, height: 20, result: { width: 75, height: 50 } }, rrdb as never, cleaning);
  assert.equal(sizes.result, { width: 75, height: 50 });
});

test('two answers to how large are refused, and one given by hand overrides a recommended one', () => {
  const choose = (given: object, recommended = {}) => chooseOptions(given, { ...SUPIR_SDXL, recommended });
  const refuses = (given: object, why: RegExp) => assert.throws(() => choose(given), why);
  refuses({ size: '20x20', longSide: 20 }, /'size' and 'longSide' both say how large the result is: give one of them/);
  refuses({ upscale: 2, megapixels: 1 }, /'upscale' and 'megapixels' both say/);
  refuses({ fill: true }, /'fill' says how a photo goes into a size: give the option 'size' too/);
  refuses({ fit: true, longSide: 200 }, /'fit' says/);
  refuses({ size: '20x20', fit: true, fill: true }, /exclude each other/);
  const { upscale, size, fill } = choose({ upscale: 3 }, { size: '20x20', fill: true });
  assert.equal([upscale, size, fill], [3, null, false]);
  assert.is(choose({ longSide: 50 }, { upscale: 2 }).upscale, 1);
  // All options of a recipe at once.
  const all = choose({ size: '20x20', fill: true });
  assert.equal(choose(all), all);
  const diffbir = { options: DIFFBIR_OPTIONS, presets: DIFFBIR_PRESETS };
  const chosen = chooseFrom(diffbir, { preset: 'v2.1', size: '90x60' }, SUPIR_SDXL);
  assert.equal([chosen.size, chosen.upscale], ['90x60', 4]);
  assert.equal(chooseFrom(diffbir, chosen, SUPIR_SDXL), chosen);
});

test.run();
