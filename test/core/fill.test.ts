/** Texts with named places. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fill } from '../../core/fill.ts';

test('places are filled, numbers as u32, and texts with places of their own', () => {
  assert.is(fill('a = $count * $line; $count', { count: 3, line: 'b[$at]', at: '0' }), 'a = 3u * b[0]; 3u');
  assert.is(fill('let x$i = x_load($i);', { i: '2', unused: '' }), 'let x2 = x_load(2);');
});

test('a name that nothing fills is told', () => {
  assert.throws(() => fill('a = $coutn;', { count: 3 }), /\$coutn/);
});

test.run();
