/** Which names from files may name a file. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { nameKey, plainName, whyNotPlain } from '../../core/plain-name.ts';

test('plain names pass unchanged', () => {
  const long = 'n'.repeat(255);
  for (const name of ['sdxl.safetensors', 'a b.png', '.hidden', 'x..y', 'cost$$.png', '日本.json', 'console.txt', '..a', long])
    assert.is(plainName(name, 'it'), name);
});

test('everything else is refused with its reason and where it stands', () => {
  const cases: [name: unknown, why: RegExp][] = [
    ['', /is empty/],
    ['.', /means a folder/],
    ['..', /means a folder/],
    ['...', /means a folder/],
    ['../x', /another folder/],
    ['a/b', /another folder/],
    ['/etc/x', /another folder/],
    ['a\\b', /another folder/],
    ['a/', /another folder/],
    ['C:x', /character/],
    ['a:stream', /character/],
    ['a\0b', /character/],
    ['a\x1b[31m', /character/],
    ['a\x9b31m', /character/],
    ['a*', /character/],
    ['a ', /blank/],
    [' a', /blank/],
    ['a\u00a0', /blank/],
    ['a.', /dot/],
    ['NUL', /device/],
    ['com1.txt', /device/],
    ['ü'.repeat(128), /longer than 255 bytes/],
    [7, /is no text/],
    [null, /is no text/],
    [undefined, /is no text/],
    [{ a: 1 }, /is no text/],
  ];
  for (const [name, why] of cases) {
    assert.match(whyNotPlain(name)!, why, JSON.stringify(name));
    try {
      plainName(name, "config.json: 'files.sdxl'");
      assert.unreachable(JSON.stringify(name));
    } catch (error) {
      assert.instance(error, UserError);
      assert.match((error as Error).message, /^config\.json: 'files\.sdxl' is .*within its folder\.$/);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
      assert.not.match((error as Error).message, /[\x00-\x1f\x7f-\x9f]/);
    }
  }
});

test('names that a system may take for one another have one key', () => {
  assert.is(nameKey('Photo.PNG'), nameKey('photo.png'));
  assert.is(nameKey('e\u0301'), nameKey('\u00e9'));
  assert.is.not(nameKey('a'), nameKey('b'));
});

test.run();
