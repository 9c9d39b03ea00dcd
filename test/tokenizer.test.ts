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

test('entities of HTML become what they stand for', () => {
  assert.equal(tokenizer.encode('cats &amp; dogs'), tokenizer.encode('cats & dogs'));
  assert.equal(
    tokenizer.encode('a &amp;lt; b &#39;x&#x27; caf&eacute;'),
    tokenizer.encode("a < b 'x' café"),
    'also those that were escaped twice',
  );
  assert.equal(tokenizer.encode('R&D &foo;'), tokenizer.encode('R & D & foo ;'), 'what is none stays');
});

test('a tokenizer whose numbers, merges or patterns are not CLIP’s is refused, and its patterns are never run', () => {
  const refuses = (change: object, why: RegExp) => assert.throws(() => new ClipTokenizer({ ...json, ...change }), why);
  const vocab = (id: unknown) => ({ model: { ...json.model, vocab: { ...json.model.vocab, '!': id } } });
  refuses(vocab('x'), /the number of its token ! is x, which is no whole number from 0/);
  for (const id of [null, 1.5, -1, 2 ** 53, Number.NaN, []])
    refuses(vocab(id), /the number of its token ! is .*, which is no whole number/);
  refuses({ model: { ...json.model, merges: 'a b' } }, /'model\.merges' are no list/);
  refuses({ model: { ...json.model, merges: ['a'] } }, /its merge a is no pair of tokens/);
  refuses({ model: { ...json.model, merges: [5] } }, /its merge 5 is no pair/);
  refuses({ model: { ...json.model, type: 'WordPiece' } }, /its kind is WordPiece, not BPE/);
  refuses({ model: null }, /its 'model' is null and no object/);
  refuses({ added_tokens: [{ id: 0.5, content: '<|endoftext|>' }] }, /the number of <\|endoftext\|> is 0\.5/);
  const split = (Regex: string) => ({ pre_tokenizer: { type: 'Split', pattern: { Regex }, behavior: 'Removed', invert: true } });
  refuses(split('[a-z]+'), /splits or replaces by the pattern .*\[a-z\]\+.*, which is not CLIP's/);
  refuses({ normalizer: { type: 'Sequence', normalizers: [{ type: 'Precompiled' }] } }, /treats texts by .*Precompiled/);
  refuses({ normalizer: 'NFC' }, /treats texts by NFC/);
  const pairs = { ...json, model: { ...json.model, merges: json.model.merges.map((merge: string) => merge.split(' ')) } };
  assert.equal(new ClipTokenizer(pairs).encode('a lighthouse'), tokenizer.encode('a lighthouse'), 'the newer spelling of merges');
  assert.is(tokenizer.highest, tokenizer.end);
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
