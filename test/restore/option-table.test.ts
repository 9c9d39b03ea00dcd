/** The tables of options: every entry is whole, every default fits, every name leads back to its key, and what is typed is read. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { EVALUATION, EVALUATION_GROUPS } from '../../evaluate/options.ts';
import { fits, keyOf, keysOf, parseText, type Schema } from '../../options/schema.ts';
import { spelled } from '../../options/spelling.ts';
import { OPTION_GROUPS, OPTIONS } from '../../restore/options.ts';
import { optionsPage } from '../../scripts/options-page.ts';
import { AUTOENCODER, LORA, TRAINING, TRAINING_GROUPS } from '../../train/options.ts';
import { projectFile } from '../support/fixtures.ts';

const TABLES: Record<string, [Schema, Record<string, string>]> = {
  restoration: [OPTIONS, OPTION_GROUPS],
  training: [{ ...TRAINING, ...LORA, ...AUTOENCODER }, TRAINING_GROUPS],
  evaluation: [EVALUATION, EVALUATION_GROUPS],
};

for (const [name, [table, groups]] of Object.entries(TABLES)) {
  test(`${name}: every option has a heading, a sentence and a default that it takes, and no name is used twice`, () => {
    const names = new Set<string>();
    for (const key of keysOf(table)) {
      const option = table[key];
      assert.ok(option.help.length > 5 && option.group in groups, key);
      assert.ok(fits(option, option.default), `${key}: ${option.default}`);
      for (const each of [key, ...(option.aliases ?? [])]) {
        const plain = each.toLowerCase();
        assert.not.ok(names.has(plain), each);
        names.add(plain);
        for (const to of ['camel', 'kebab', 'snake'] as const) assert.is(keyOf(table, spelled(each, to)), key);
      }
    }
    assert.is(keyOf(table, 'constructor'), undefined);
  });
}

test('names change mechanically between cases', () => {
  assert.equal(
    (['cfgStart', 'stage1Only', 'vaeTileMib', 'seed'] as const).map((key) => spelled(key, 'kebab')),
    ['cfg-start', 'stage1-only', 'vae-tile-mib', 'seed'],
  );
  assert.is(spelled('cfgStart', 'snake'), 'cfg_start');
});

test('what is typed becomes a value, or is refused', () => {
  assert.is(parseText(OPTIONS.cfg, ' 7.5 '), 7.5);
  assert.equal(parseText(OPTIONS.ablate, '0, 3-5'), [0, 3, 4, 5]);
  assert.equal(parseText(OPTIONS.controlScalePerModule, '1,0.5'), [1, 0.5]);
  assert.equal(parseText(OPTIONS.tilePrompts, 'a cat\na dog\n'), ['a cat', 'a dog']);
  assert.is(parseText(OPTIONS.prompt, '7'), '7');
  assert.equal(parseText(TRAINING.betas, '0.8,0.9'), [0.8, 0.9]);
  assert.equal(parseText(TRAINING.blur, '1 2'), [1, 2]);
  assert.is(parseText(TRAINING.blur, '1'), 1);
  for (const bad of ['high', '', '101', 'NaN', '-1'])
    assert.throws(() => parseText(OPTIONS.cfg, bad), /^It must be a number from 0 to 100\.$/);
  for (const bad of ['5-3', '1000', 'x', '']) assert.throws(() => parseText(OPTIONS.ablate, bad), /It must be a list of integers/);
  assert.throws(() => parseText(TRAINING.betas, '0.9'), /It must be a list of 2 numbers/);
  assert.throws(() => parseText(OPTIONS.steps, '2.5'), /It must be an integer from 1 to 1000/);
  assert.throws(() => parseText(OPTIONS.sampler, 'ddim'), /It must be one of edm, dpmpp2m, euler/);
  assert.throws(() => parseText(TRAINING.blur, '2 1'), /or a lowest and a highest/);
});

test('docs/options.md is what the tables say', async () => {
  const page = new TextDecoder().decode(await projectFile('docs/options.md'));
  assert.is(page, optionsPage(), 'run `npm run docs:options`');
});

test.run();
