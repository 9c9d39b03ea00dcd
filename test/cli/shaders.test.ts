/** `supir shaders`, and SUPIR_DEBUG's refusal. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { supir } from './run-cli.ts';

test('shaders lists names, and prints modules by name, schedule and type', async () => {
  const all = await supir(['shaders']);
  assert.is(all.code, 0);
  const names = all.stdout.trim().split('\n');
  assert.ok(names.length > 1000 && names.includes('softmax f32'), `${names.length} names`);
  const one = await supir(['shaders', '^softmax f32$', '--schedule', 'tiled', '--width', 'f32']);
  assert.match(
    one.stdout,
    /^\/\/ softmax f32\nstruct Params \{ rows: u32, [\s\S]*\nfn run\([\s\S]*\n {2}if \(group >= p\.rows\) \{ return; \}\n/,
  );
  const narrow = await supir(['shaders', 'matmul', '--schedule', 'subgroup', '--width', 'q4', '--names']);
  const found = narrow.stdout.trim().split('\n');
  assert.ok(found.length > 2 && found.every((name) => / q4 .*subgroup 8$/.test(name)), narrow.stdout);
});

test('a pattern that fits nothing, or is none, is refused', async () => {
  for (const pattern of ['no such shader', '(']) {
    const { code, stderr } = await supir(['shaders', pattern]);
    assert.is(code, 2);
    assert.match(stderr, /pattern/);
  }
});

test.run();
