/** The table of settings holds every option, and reads what a person types. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DEFAULTS, NUMBER_RANGES } from '../../restore/options.ts';
import { parseSetting, SETTING_GROUPS, SETTING_KEYS, SETTINGS, settingName } from '../../restore/settings.ts';

test('every option has a name, a group and a sentence, and every number a range', () => {
  assert.equal([...SETTING_KEYS].sort(), Object.keys(DEFAULTS).sort());
  for (const key of SETTING_KEYS) {
    const { kind, help, group } = SETTINGS[key];
    assert.ok(help.length > 10 && SETTING_GROUPS.includes(group), key);
    assert.is(kind === 'number', key in NUMBER_RANGES, key);
  }
  assert.equal((['cfgStart', 'stage1Only', 'vaeTileMib', 'seed'] as const).map(settingName), [
    'cfg-start',
    'stage1-only',
    'vae-tile-mib',
    'seed',
  ]);
});

test('what is typed becomes a value, or is refused', () => {
  assert.is(parseSetting(SETTINGS.cfg, ' 7.5 '), 7.5);
  assert.equal(parseSetting(SETTINGS.ablate, '0, 3-5'), [0, 3, 4, 5]);
  assert.equal(parseSetting(SETTINGS.controlScalePerModule, '1,0.5'), [1, 0.5]);
  assert.equal(parseSetting(SETTINGS.tilePrompts, 'a cat\na dog\n'), ['a cat', 'a dog']);
  assert.is(parseSetting(SETTINGS.prompt, '7'), '7');
  assert.throws(() => parseSetting(SETTINGS.cfg, 'high'), /must be a number/);
  assert.throws(() => parseSetting(SETTINGS.ablate, '5-3'), /must be indices/);
});

test.run();
