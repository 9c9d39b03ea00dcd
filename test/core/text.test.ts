/** Text from outside on its way into a message. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { factsOf, UserError } from '../../core/errors.ts';
import { kindOf, parseJson, parseJsonBytes } from '../../core/json.ts';
import { listed, sentence, shown, shownMessage } from '../../core/text.ts';

test('control characters are shown', () => {
  assert.is(shown('\x1b]0;TITLE\x07\x1b[31mred'), '\\x1b]0;TITLE\\x07\\x1b[31mred');
  assert.is(shown('a\nb\r\tc\x7f\x9b2J'), 'a\\nb\\r\\tc\\x7f\\x9b2J');
  assert.is(shown('txt.\u202egnp\u2028x\u200b'), 'txt.\\u202egnp\\u2028x\\u200b', 'direction, separators, nothing wide');
  assert.is(shown('\ud83d\ude00 ñ 漢字 \ud83d'), '\ud83d\ude00 ñ 漢字 \\ud83d', 'whole pairs and letters stay, halves do not');
});

test('what is long is cut, with its length', () => {
  assert.is(shown('x'.repeat(500), 10), 'xxxxxxxxxx... (500 characters)');
  assert.ok(shown('\x1b'.repeat(1e6)).length < 600);
  assert.ok(shown(Array(1e6).fill(1)).length < 200);
  assert.ok(shown({ deep: 'y'.repeat(1e5) }).length < 200);
  assert.is(shownMessage('one\ntwo\x1b[2J'), 'one\ntwo\\x1b[2J', 'a message may have lines');
  assert.ok(shownMessage('z'.repeat(1e7)).length < 4100);
  assert.is(listed(['a\x1b', 'b', 'c'], 2), 'a\\x1b, b and 1 more');
});

test('what is no text is shown as JSON', () => {
  assert.equal(
    [shown(null), shown(5), shown(Number.NaN), shown(['a']), shown({ a: 1 }), shown(undefined)],
    ['null', '5', 'NaN', '["a"]', '{"a":1}', 'undefined'],
  );
  assert.equal([null, [], 'a', 1, true, {}, undefined].map(kindOf), [
    'null',
    'a list',
    'a text',
    'a number',
    'true or false',
    'an object',
    'missing',
  ]);
});

test('another sentence can follow what a driver says', () => {
  const texts = ['device was destroyed', 'No room.', 'Lost (no message)', 'Why? (It said "no.")', 'over\n'];
  assert.equal(texts.map(sentence), ['device was destroyed.', 'No room.', 'Lost (no message).', 'Why? (It said "no.").', 'over.']);
});

test('an error guards its own message, and has its facts', () => {
  const error = new UserError(`no \x1b[31m${'m'.repeat(1e6)}`, { code: 'no-photo', file: 'a.png', values: { width: 3 }, cause: 1 });
  assert.ok(error.message.startsWith('no \\x1b[31mm') && error.message.length < 4100);
  assert.equal(factsOf(error), { code: 'no-photo', file: 'a.png', values: { width: 3 } });
  assert.is(error.cause, 1);
  assert.equal(factsOf(new Error('x')), {});
});

test('what is not JSON is told with its place, not in the parser’s words', () => {
  const message = (work: () => unknown) => {
    try {
      return void work();
    } catch (error) {
      return (error as Error).message;
    }
  };
  assert.equal(parseJson('{"a":[1]}', 'a.json'), { a: [1] });
  for (const text of ['{"a": 1,\n  "b" 2}', '{"a": \x1b}', '']) {
    const found = message(() => parseJson(text, 'a.json'));
    assert.match(found!, /^a\.json is not JSON/);
    assert.not.match(found!, /[Uu]nexpected|Expected/);
  }
  assert.match(message(() => parseJsonBytes(Uint8Array.of(0xff, 0xfe, 0x7b), 'b.json'))!, /^b\.json is not JSON: it is no UTF-8 text/);
});

test.run();
