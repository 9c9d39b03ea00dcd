/** Messages are data: the library's sentences know no front end, and each front end says what helps in its own words. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { words as inTerminal } from '../../cli/messages.ts';
import { programName } from '../../cli/program.ts';
import { factsOf, type UserError } from '../../core/errors.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { chooseOptions, type GivenOptions } from '../../restore/choose-options.ts';
import { words as onPage } from '../../web/messages.ts';

const root = join(import.meta.dirname, '..', '..');

/** Rooms whose sentences are for a library's user. */
const ROOMS = [
  'core',
  'evaluate',
  'gpu',
  'host',
  'image',
  'kernels',
  'models',
  'options',
  'restore',
  'sampler',
  'train',
  'verify',
  'weights',
];

test('no sentence of the library names a flag of ours or a command of npm', () => {
  const found: string[] = [];
  for (const room of ROOMS) {
    for (const name of readdirSync(join(root, room)).filter((each) => each.endsWith('.ts'))) {
      const code = readFileSync(join(root, room, name), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
      // Styles have names that begin with two dashes, and Chromium has switches.
      for (const line of code.split('\n').filter((each) => !/^\s*\/\//.test(each)))
        if (/['"`].*(\bnpm (run|ci|i|install)\b|[ `(]--(?!enable-unsafe)[a-z][\w-]*(?![\w-]*[:)]))/.test(line))
          found.push(`${room}/${name}: ${line.trim()}`);
    }
  }
  assert.equal(found, []);
});

function refusal(work: () => unknown): UserError {
  try {
    work();
  } catch (error) {
    return error as UserError;
  }
  throw new Error('nothing was refused');
}

test('each front end says it in its own words', () => {
  const error = refusal(() => chooseOptions({ cfgStart: 200 } as GivenOptions, SUPIR_SDXL));
  assert.is(error.message, "The option 'cfgStart' is 200; it must be a number from 0 to 100.");
  assert.is(inTerminal(error), '--cfg-start is 200; it must be a number from 0 to 100.');
  assert.is(onPage(error), 'cfg-start is 200; it must be a number from 0 to 100.');
  assert.equal(factsOf(error), {
    code: 'option-value',
    option: 'cfgStart',
    values: { given: '200', expected: 'a number from 0 to 100', place: undefined },
  });

  const ofFile = refusal(() => chooseOptions({}, { ...SUPIR_SDXL, recommended: { steps: 'many' } }));
  for (const words of [inTerminal, onPage]) assert.is(words(ofFile), ofFile.message, 'what a file says is no flag of the command');

  const preset = refusal(() => chooseOptions({ preset: 'best' }, SUPIR_SDXL));
  assert.match(inTerminal(preset), /there are: quality.*restore --model <folder> --help/);
  assert.not.match(onPage(preset), /--/);

  const adapter = { code: 'no-adapter', message: 'No adapter.' };
  assert.match(inTerminal(adapter), /^No adapter\. `.*supir.* doctor` says/);
  assert.match(onPage(adapter), /^No adapter\. The Adapter page/);
  for (const words of [inTerminal, onPage]) {
    assert.is(words({ message: 'plain' }), 'plain');
    assert.is(words({ message: 'x\x1b[31m', code: 'toString' }), 'x\\x1b[31m');
  }
});

test('the program is called as it was started', () => {
  assert.equal(['/x/cli/main.ts', '/x/node_modules/.bin/supir', '/usr/bin/supir', 'dist/cli/main.js'].map(programName), [
    'npm run -s supir --',
    'npx supir',
    'supir',
    'node dist/cli/main.js',
  ]);
});

test.run();
