import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { clipTokenizerJson } from '../models/clip-vocabulary.ts';
import { ClipTokenizer } from '../models/tokenizer.ts';

const tokenizer = new ClipTokenizer(await clipTokenizerJson());

test('the published ids', () => {
  assert.is(tokenizer.start, 49406);
  assert.is(tokenizer.end, 49407);
  // From the documentation and tests of CLIP, open_clip and transformers.
  assert.equal(tokenizer.encode('a photo of a cat'), [320, 1125, 539, 320, 2368]);
  assert.equal(tokenizer.encode('a photo of a dog'), [320, 1125, 539, 320, 1929]);
  assert.equal(tokenizer.encode('hello world!'), [3306, 1002, 256]);
  assert.equal(tokenizer.encode('a diagram'), [320, 22697]);
});

test('a frame of 77 tokens for either tower', () => {
  const ids = tokenizer.encodePadded('Cinematic, High Contrast', { pad: 'eot' });
  assert.is(ids.length, 77);
  assert.equal([ids[0], ids[76]], [49406, 49407]);
  assert.is(tokenizer.encodePadded('', { pad: 'zero' })[2], 0);
});

test.run();
