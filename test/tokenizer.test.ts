import { Tokenizer } from '@huggingface/tokenizers';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../core/errors.ts';
import { cleanedPrompt } from '../models/prompt-cleaning.ts';
import { ClipTokenizer } from '../models/tokenizer.ts';
import { bytesSource } from '../weights/byte-source.ts';
import { openSafetensors } from '../weights/safetensors.ts';
import { inBounds } from './support/bounds.ts';
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

test('what is not a tokenizer of CLIP is refused, by the entry', async () => {
  const { vocab, merges } = json.model;
  const model = (changes: object) => ({ ...json, model: { ...json.model, ...changes } });
  const [first, second] = Object.keys(vocab);
  const ids = (id: unknown) => model({ vocab: { ...vocab, [first]: id } });
  const split = (regex: unknown) => ({
    ...json,
    pre_tokenizer: {
      ...json.pre_tokenizer,
      pretokenizers: [{ ...json.pre_tokenizer.pretokenizers[0], pattern: { Regex: regex } }, json.pre_tokenizer.pretokenizers[1]],
    },
  });
  const cases: [unknown, RegExp][] = [
    [{}, /tokenizer\.json of CLIP/],
    [null, /'content' is null/],
    [[], /'content' is/],
    ['text', /'content' is text/],
    [{ ...json, added_tokens: [], model: { ...json.model, vocab: { a: 0 }, merges: [] } }, /no token <\|startoftext\|>/],
    [model({ type: 'Unigram' }), /not BPE/],
    [model({ vocab: [] }), /'model\.vocab'/],
    ...['x', null, 1.5, -1, 2 ** 53, 1e300, '0', [0], true, vocab[second], Object.keys(vocab).length].map((id): [unknown, RegExp] => [
      ids(id),
      /no whole number from 0 to 2013, each once/,
    ]),
    [{ ...json, added_tokens: [...json.added_tokens, { id: 5, content: 'cat' }] }, /adds the token cat, which CLIP does not/],
    [{ ...json, added_tokens: [{ id: 5, content: '<|endoftext|>' }] }, /the number of <\|endoftext\|> is 5, and in its vocabulary 2013/],
    [{ ...json, added_tokens: 7 }, /'added_tokens'/],
    [{ ...json, normalizer: null }, /divides texts in another way/],
    [{ ...json, normalizer: { type: 'Sequence', normalizers: [...json.normalizer.normalizers, { type: 'Lowercase' }] } }, /another way/],
    [{ ...json, pre_tokenizer: { type: 'Whitespace' } }, /treats texts by/],
    [split('.'), /not CLIP's/],
    [split(7), /not CLIP's/],
    [model({ merges: 'a b' }), /'model\.merges'/],
    [model({ merges: [...merges, 7] }), /merge 7 is no pair/],
    [model({ merges: ['i n', 'ab cdefgh'] }), /merge ab cdefgh is no pair/],
    [model({ merges: ['i  n'] }), /merge i {2}n is no pair/],
    [model({ merges: [['i', 'n', 'x']] }), /is no pair/],
    [model({ merges: ['__proto__ i'] }), /is no pair/],
  ];
  for (const [given, expected] of cases) {
    assert.throws(
      () => new ClipTokenizer(given),
      (error: Error) => error instanceof UserError && expected.test(error.message),
      String(expected),
    );
  }
  const pairs = new ClipTokenizer(model({ merges: merges.map((merge: string) => merge.split(' ')) }));
  assert.equal(pairs.encode('a photo of a cat'), tokenizer.encode('a photo of a cat'), 'merges as pairs');
});

test('texts of any size cost what their beginning costs', async () => {
  const bounds = { seconds: 2, megabytes: 300 };
  const many = 'a '.repeat(600_000);
  const endless = 'x'.repeat(20_000_000);
  const sentence = tokenizer.encode('a a a a');
  await inBounds(() => assert.equal([...tokenizer.encodePadded(many, { pad: 'zero' })].slice(1, 5), sentence.slice(0, 4)), bounds);
  await inBounds(() => assert.is(tokenizer.cutOff(many).length, many.length - 75 * 2), bounds);
  await inBounds(
    () => assert.is(tokenizer.encodePadded(endless, { pad: 'eot' })[75], tokenizer.encodePadded('x'.repeat(4096), { pad: 'eot' })[75]),
    bounds,
  );
  await inBounds(() => assert.is(tokenizer.cutOff(`a ${endless}`).length, endless.length), bounds);
  await inBounds(() => assert.is(tokenizer.cutOff(' '.repeat(20_000_000)), ''), bounds);
  await inBounds(() => assert.is(tokenizer.encode(`${'\u0301'.repeat(100_000)}`).length > 0, true), bounds);
});

test('a word at a time gives what the whole text gives', () => {
  const whole = new Tokenizer(json, {});
  for (const text of [
    "it's 32k!? a_b",
    'CAFE\u0301 \u0301x',
    '\u039f\u0394\u039f\u03a3 \u03a3',
    'a\u00a0b\u2003c\ufeffd\u0085e\u001cf\u200bg\u3000h',
    '<|endoftext|> x<|startoftext|>y',
    '\u65e5\u672c\u8a9e 12\u0661',
  ])
    assert.equal(tokenizer.encode(text), whole.encode(text, { add_special_tokens: false }).ids, text);
});

test('entities of HTML become what they stand for', async () => {
  const cases = {
    'cats &amp; dogs': 'cats & dogs',
    'a &amp;lt; b &#39;x&#x27; caf&eacute;': "a < b 'x' café",
    'R&D &foo; &copy2024 &#150;': 'R&D &foo; ©2024 –',
    plain: 'plain',
  };
  for (const [text, clean] of Object.entries(cases)) assert.is(await cleanedPrompt(text), clean);
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
