/** Text files in the encodings that editors save. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CAPTION_BYTES, plainText } from '../../core/plain-text.ts';
import { readTextFile } from '../../host/text-file.ts';
import { MemoryFiles } from '../support/memory-files.ts';
import { refused } from '../support/refused.ts';

const utf16 = (text: string, bigEndian: boolean): number[] =>
  Array.from({ length: text.length }, (_, i) => text.charCodeAt(i)).flatMap((unit) =>
    bigEndian ? [unit >> 8, unit & 255] : [unit & 255, unit >> 8],
  );
const latin = (text: string): number[] => Array.from(text, (letter) => letter.charCodeAt(0));
const read = (bytes: ArrayLike<number>): string => plainText(Uint8Array.from(bytes), 'photo.txt');

test('UTF-8, UTF-16 and Latin letters, with and without marks', () => {
  for (const text of ['a café at night', 'Größe', 'a house, a tree\r\nand a hill', '']) {
    const utf8 = [...new TextEncoder().encode(text)];
    assert.is(read(utf8), text);
    assert.is(read([0xef, 0xbb, 0xbf, ...utf8]), text);
    assert.is(read([0xff, 0xfe, ...utf16(text, false)]), text);
    assert.is(read([0xfe, 0xff, ...utf16(text, true)]), text);
    assert.is(read(utf16(text, false)), text);
    assert.is(read(utf16(text, true)), text);
    assert.is(read(latin(text)), text);
  }
  assert.is(read([0xff, 0xfe, ...utf16('寺の夜 🌙', false)]), '寺の夜 🌙');
  assert.is(read([0x93, 0x6f, 0x6b, 0x94, 0x20, 0x85]), '“ok” …', "Windows' quotes");
});

test('what is no text, and what is too long, is refused by name', async () => {
  assert.throws(() => read([0xff, 0xd8, 0, 0, 1, 2, 0]), /photo\.txt is not a text file/);
  const files = new MemoryFiles();
  files.files.set('fits.txt', new Uint8Array(CAPTION_BYTES).fill(97));
  files.files.set('long.txt', new Uint8Array(CAPTION_BYTES + 1).fill(97));
  assert.is((await readTextFile(files, 'fits.txt')).length, CAPTION_BYTES);
  await refused(readTextFile(files, 'long.txt'), /long\.txt has 65537 bytes, and a text here may have at most 65536/);
  assert.is((await readTextFile(files, 'long.txt', 1e6)).length, CAPTION_BYTES + 1);
});

test.run();
