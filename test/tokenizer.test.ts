import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ClipTokenizer } from '../models/tokenizer.ts';
import { bytesSource } from '../weights/byte-source.ts';
import { openSafetensors } from '../weights/safetensors.ts';
import { projectFile } from './support/fixtures.ts';

const json = JSON.parse(new TextDecoder().decode(await projectFile('demo/tokenizer.json')));
const tokenizer = new ClipTokenizer(json);
const reference = await openSafetensors(bytesSource('reference', await projectFile('demo/reference.safetensors')));

for (const text of ['positive', 'negative']) {
  test(`the ${text} prompt of the reference, padded for both towers`, async () => {
    const prompt = reference.metadata.get(text)!;
    assert.ok(prompt.length > 100);
    assert.equal([...tokenizer.encodePadded(prompt, { pad: 'eot' })], await reference.ints(`text/${text}/tokens1`));
    assert.equal([...tokenizer.encodePadded(prompt, { pad: 'zero' })], await reference.ints(`text/${text}/tokens2`));
  });
}

test('case, white space and composed accents do not count', () => {
  const plain = tokenizer.encode('a photo of a café');
  assert.equal(tokenizer.encode('  A\tPHOTO\n\nof a   CAFE\u0301 '), plain);
  assert.equal(tokenizer.encode(''), []);
});

test('words, contractions, digits and punctuation are split as CLIP splits them', () => {
  const pieces = (text: string) =>
    tokenizer.encode(text).map((id) => Object.keys(json.model.vocab).find((t) => json.model.vocab[t] === id)!);
  const words = (text: string) => pieces(text).join('').split('</w>').slice(0, -1);
  assert.equal(words("it's 32k!? a_b"), ['it', "'s", '3', '2', 'k', '!?', 'a', '_', 'b']);
  assert.equal(words('é'), ['Ã©']); // two bytes, each under its own visible name
});

test('text of any script becomes tokens and is never unknown', () => {
  const names = ['日本語', 'привет', '😀', '\u0000'];
  for (const name of names) {
    const ids = tokenizer.encode(name);
    assert.ok(ids.length > 0 && ids.every((id) => id >= 0 && id < tokenizer.start), name);
  }
});

test('a text that is too long keeps the end token last', () => {
  const ids = tokenizer.encodePadded('a '.repeat(100), { pad: 'zero' });
  assert.is(ids.length, 77);
  assert.is(ids[0], tokenizer.start);
  assert.is(ids[76], tokenizer.end);
  assert.is(ids[75], tokenizer.encode('a')[0]);
  assert.equal([...tokenizer.encodePadded('a', { length: 2, pad: 'eot' })], [tokenizer.start, tokenizer.end]);
  assert.throws(() => tokenizer.encodePadded('a', { length: 1, pad: 'eot' }), /cannot hold/);
});

test('what is not a tokenizer of CLIP is refused', () => {
  assert.throws(() => new ClipTokenizer({}), /tokenizer\.json of CLIP/);
  assert.throws(
    () => new ClipTokenizer({ ...json, added_tokens: [], model: { ...json.model, vocab: { a: 0 }, merges: [] } }),
    /<\|startoftext\|>/,
  );
});

test('what is cut off is told in the words of the text', () => {
  assert.is(tokenizer.cutOff('a '.repeat(75)), '');
  assert.is(tokenizer.cutOff(`${'a '.repeat(75)}cat, then  the end.`), 'cat, then  the end.');
  const long = `${'a '.repeat(73)}unpronounceabilities remain`; // a word of which only a part fits
  assert.ok(tokenizer.encode('unpronounceabilities').length > 2);
  assert.is(tokenizer.cutOff(long), 'unpronounceabilities remain');
  assert.is(tokenizer.cutOff('', 2), '');
});

test.run();
