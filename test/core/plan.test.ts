/** The memory plan: slots are reused but never shared by two live values, and what cannot fit is refused with the numbers. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type PlannedDispatch, type Storage, type Value, written } from '../../core/dispatch.ts';
import { ShapeError } from '../../core/errors.ts';
import { Parameter } from '../../core/module.ts';
import type { Plan } from '../../core/plan.ts';
import { TorchRandom } from '../../core/random.ts';
import { present } from '../../core/shader.ts';
import { type Changes, constant, input, type Tensor } from '../../core/tensor.ts';
import { attention } from '../../kernels/attention.ts';
import { add, mul } from '../../kernels/binary.ts';
import { conv2d } from '../../kernels/conv2d.ts';
import { concat, permute, slice } from '../../kernels/copy.ts';
import { exchange } from '../../kernels/exchange.ts';
import { plan } from '../../kernels/fusion.ts';
import { groupNorm } from '../../kernels/group-norm.ts';
import { linear } from '../../kernels/linear.ts';
import { part, placeBehind, together } from '../../kernels/part.ts';
import { reshape } from '../../kernels/reshape.ts';
import { softmax } from '../../kernels/softmax.ts';
import { affine, cast, exp, silu } from '../../kernels/unary.ts';
import { modulate } from '../../kernels/zero-sft.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

/** A graph of up to 40 operations on (2, rows, 8) tensors of several lengths, with views, casts and scratch among them; up to 3 outputs. */
function randomGraph(seed: number, y: Changes = 'every run'): Record<string, Tensor> {
  const random = new TorchRandom(seed);
  const below = (n: number) => random.uint32() % n;
  const made: Tensor[] = [input('x', [2, 3, 8]), input('y', [2, 5, 8], 'f32', y), constant(new Float32Array(48), [2, 3, 8])];
  const pick = () => made[below(made.length)];
  const ones = constant(new Float32Array(8).fill(1), [8]);
  const twos = constant(new Float32Array(16).fill(1), [16]);
  const weight = constant(new Float32Array(64), [8, 8]);
  const steps: ((x: Tensor) => Tensor)[] = [
    (x) => exp(x),
    (x) => silu(x),
    (x) => linear(x, weight, ones),
    (x) => silu(linear(x, weight)),
    (x) => add(linear(x, weight), x),
    (x) => groupNorm(x, ones, ones, 2),
    (x) => softmax(x),
    (x) => permute(permute(x, [0, 2, 1]), [0, 2, 1]),
    (x) => reshape(reshape(x, [x.size]), x.shape),
    (x) => cast(cast(x, 'f16'), 'f32'),
    (x) => (x.shape[1] < 40 ? concat([x, pick()], 1) : slice(x, 1, 0, 4)),
    (x) => attention(x, pick(), x, 2),
    (x) => {
      const [behind, y] = [placeBehind(x.size), exp(pick())];
      const parts = [
        { first: behind, x: y },
        { first: 0, x: reshape(silu(x), [x.size]) },
      ];
      return together(parts, [2, (behind + y.size) / 16, 8]);
    },
    (x) => slice(groupNorm(concat([x, pick()]), twos, twos, 2), 2, 4, 12),
    (x) => {
      const other = pick();
      const normal = groupNorm(concat([other, x]), twos, twos, 2);
      return slice(modulate(normal, concat([x, x]), concat([x, other]), concat([x, other]), 0.5), 2, 0, 8);
    },
    (x) => {
      const other = made.findLast((tensor) => tensor !== x && tensor.shape[1] === x.shape[1]);
      return other ? mul(x, other) : add(x, x);
    },
  ];
  for (let i = 0, count = 3 + below(38); i < count; i++) {
    const x = pick();
    const step = steps[below(steps.length)];
    try {
      made.push(step(x));
    } catch (error) {
      if (!(error instanceof ShapeError)) throw error; // of different lengths
    }
  }
  const outputs = Object.fromEntries(Array.from({ length: 1 + below(3) }, (_, i) => [`out${i}`, pick()]));
  return { ...outputs, last: made[made.length - 1] };
}

/**
 * Replays the plan on paper, twice where a part runs once, and once more as it runs where a result is taken over: whoever reads a slot must find there what
 * it was promised. Returns how many slots were overwritten.
 */
function simulate({ dispatches, once, reusing, outputs, slots }: Plan): number {
  const owner: (Storage | null)[] = slots.map(() => null);
  let overwritten = 0;
  const expectOwner = (value: Value, who: string) => {
    if (value.storage.kind === 'pooled') assert.ok(owner[value.storage.slot] === value.storage, `${who} finds another value in its slot`);
  };
  const again = once > 0 ? dispatches.slice(once) : [];
  const reused = reusing ? dispatches.slice(once).filter((dispatch) => reusing.has(dispatch)) : [];
  for (const { operands, shader, label } of [...dispatches, ...again, ...reused]) {
    const bindings = present(shader.bindings);
    const writes = operands.filter((_, i) => bindings[i][1].write);
    const reads = operands.filter((_, i) => !bindings[i][1].write);
    for (const value of reads) expectOwner(value, `${label} reading ${value.label}`);
    for (const { storage } of writes) {
      assert.ok(storage.kind === 'pooled', `${label} writes into a fixed buffer`);
      assert.ok(storage.bytes <= slots[storage.slot], `${label} overflows its slot`);
      const alias = reads.find((value) => value.storage.kind === 'pooled' && value.storage.slot === storage.slot);
      assert.ok(!alias, `${label} reads and writes one buffer`);
      if (owner[storage.slot] && owner[storage.slot] !== storage) overwritten++;
      owner[storage.slot] = storage;
    }
  }
  const fresh = new Set(reused.flatMap(written));
  for (const [name, value] of outputs) if (!reusing || fresh.has(value.storage)) expectOwner(value, `output ${name}`);
  return overwritten;
}

test('no two live values share a slot, on 300 random graphs', () => {
  let reused = 0;
  for (let seed = 0; seed < 300; seed++) {
    const planned = plan(randomGraph(seed), FACTS, LIMITS);
    reused += simulate(planned);
    assert.is(
      planned.bytes.intermediates,
      planned.slots.reduce((sum, bytes) => sum + bytes, 0),
    );
  }
  assert.ok(reused > 1000, `only ${reused} reuses`);
});

test('what depends on seldom inputs alone comes first and keeps its slots from run to run, on 100 random graphs', () => {
  let hoisted = 0;
  for (let seed = 0; seed < 100; seed++) {
    const planned = plan(randomGraph(seed, 'seldom'), FACTS, LIMITS);
    const plain = planned.unhoisted();
    simulate(planned);
    simulate(plain);
    assert.is(plain.once, 0);
    assert.is(planned.dispatches.length, plain.dispatches.length);
    const reads = ({ operands }: PlannedDispatch) =>
      operands.some(({ storage }) => storage.kind === 'input' && storage.changes === 'seldom');
    assert.is(planned.seldom.size, planned.dispatches.slice(0, planned.once).some(reads) ? 1 : 0, 'what must make it run again');
    hoisted += planned.seldom.size;
  }
  assert.ok(hoisted > 10, `only ${hoisted} graphs`);
});

test('a result that is taken over keeps its slot from run to run, and what only leads to it is left out, on 100 random graphs', () => {
  let left = 0;
  for (let seed = 0; seed < 100; seed++) {
    const graph = randomGraph(seed, seed % 2 ? 'seldom' : 'every run');
    // Some result in the middle of what leads to the last.
    const between: Tensor[] = [];
    for (
      let tensor = graph.last;
      tensor.source.kind === 'op';
      tensor = Object.values(tensor.source.inputs).find((input) => input !== null)!
    )
      between.push(tensor);
    if (between.length < 3) continue;
    const middle = between[between.length >> 1];
    const planned = plan({ last: graph.last, middle }, FACTS, LIMITS, { reused: 'middle' });
    simulate(planned);
    const { reusing, outputs, dispatches } = planned;
    const makes = (name: string) => dispatches.filter((dispatch) => written(dispatch).includes(outputs.get(name)!.storage));
    if (reusing!.size > 0) assert.ok(makes('last').every((each) => reusing!.has(each)));
    assert.not.ok(makes('middle').some((each) => reusing!.has(each)));
    left += dispatches.length - reusing!.size;
  }
  assert.ok(left > 100, `only ${left} dispatches left out`);
  assert.is(plan(randomGraph(1), FACTS, LIMITS).reusing, null);
});

test('where results would take too much room, those are computed again that cost least for it', () => {
  const side = 3000; // 36 MB a result
  const text = input('text', [side, side], 'f32', 'seldom');
  const x = input('x', [side, side]);
  const cheap = exp(text);
  const dear = linear(text, text);
  const planned = plan({ y: add(mul(x, cheap), mul(x, dear)) }, FACTS, LIMITS);
  assert.equal(
    planned.dispatches.slice(0, planned.once).map(({ shader }) => shader.name.split(' ')[0]),
    plan({ dear }, FACTS, LIMITS).dispatches.map(({ shader }) => shader.name.split(' ')[0]),
  );
  assert.is(planned.bytes.hoisted, 4 * side * side);
});

test('beside weights in training, what is made of the others alone runs once; and what is changed in place has no room of its own', () => {
  const [frozen, trained] = ['frozen', 'trained'].map((name) => Object.assign(new Parameter([8], 'vector'), { name }));
  const graph = () => ({ y: add(add(input('x', [8]), exp(frozen.tensor)), silu(trained.tensor)) });
  assert.is(plan(graph(), FACTS, LIMITS).once, 0, 'nothing tells that it is run again');
  trained.changes = 'every run';
  const planned = plan(graph(), FACTS, LIMITS);
  assert.equal([planned.once, planned.bytes.hoisted], [1, 32]);
  assert.equal(
    planned.dispatches[0].operands.map(({ storage }) => storage.kind === 'parameter' && storage.parameter.name),
    ['frozen', false],
  );
  const { outputs, bytes } = plan({ swapped: exchange(trained.tensor, frozen.tensor) }, FACTS, LIMITS);
  assert.equal([outputs.get('swapped')!.storage.kind, bytes.intermediates], ['parameter', 0]);
});

test('what is computed to lie among others alone is computed there, and nothing else is copied', () => {
  const [x, w] = [input('x', [64]), new Parameter([64], 'vector')];
  const shared = exp(x);
  const parts = (...all: Tensor[]) =>
    together(
      all.map((x, i) => ({ first: 64 * i, x })),
      [64 * all.length],
    );
  const kernels = (y: Tensor) => plan({ y, shared }, FACTS, LIMITS).dispatches.map(({ shader }) => shader.name.split(' ')[0]);
  assert.equal(kernels(parts(silu(x), reshape(exp(shared), [8, 8]))), ['unary', 'unary', 'unary']);
  assert.equal(kernels(part(parts(exp(x), silu(x)), 64, [8, 8])), ['unary', 'unary', 'unary']);
  assert.equal(kernels(parts(shared, w.tensor, x, parts(exp(x)))), ['unary', 'unary', 'copy', 'copy', 'copy', 'copy']);
  assert.equal(kernels(together([{ first: 128, x: silu(x) }], [256])), ['unary', 'unary', 'fill', 'fill']);
  const { dispatches, slots } = plan({ y: parts(silu(x), exp(x)) }, FACTS, LIMITS);
  assert.equal([slots, dispatches.map(({ operands }) => operands[1].begins ?? 0)], [[512], [0, 256]]);
});

test('scratch that is filled more than once is no result that could stay', () => {
  // Too many windows for one piece of scratch: they are transformed in parts.
  const w = new Parameter([1024, 1024, 3, 3], 'conv');
  const x = input('x', [1, 64, 64, 1024]);
  const planned = plan({ y: add(conv2d(x, w.tensor, null, { padding: 1 }), input('shift', [1024], 'f32', 'seldom')) }, FACTS, LIMITS);
  assert.ok(planned.dispatches.filter(({ shader }) => shader.name.startsWith('winograd windows')).length > 1);
  assert.is(planned.once, 0);
});

test('a long chain needs two slots, a long memory as many as live values', () => {
  let chain: Tensor = input('x', [1000]);
  for (let i = 0; i < 50; i++) chain = exp(chain);
  assert.equal(plan({ chain }, FACTS, LIMITS).slots, [4000, 4000]);

  const x = input('x', [1000]);
  const parts = Array.from({ length: 6 }, (_, i) => affine(x, i, 0));
  assert.is(plan({ all: concat(parts) }, FACTS, LIMITS).slots.length, 7);
});

test('views take no memory and keep what they show alive', () => {
  const x = input('x', [3, 40]);
  const view = reshape(exp(x), [40, 3]);
  const planned = plan({ y: mul(view, affine(affine(affine(view, 2, 0), 2, 0), 2, 0)) }, FACTS, LIMITS);
  assert.is(planned.dispatches.length, 5);
  assert.is(planned.slots.length, 3);
  simulate(planned);
});

test('weights are counted once however often they are read, and apart from inputs', () => {
  const weight = new Parameter([8, 8], 'matrix');
  weight.name = 'layer.weight';
  const x = input('x', [3, 8]);
  const { bytes } = plan({ y: linear(linear(x, weight.tensor), weight.tensor) }, FACTS, LIMITS);
  assert.equal(bytes, { intermediates: 192, hoisted: 0, inputs: 96, params: 512, results: 96, total: 896, weights: 128 });
});

test('a graph that was traced before its weights took another type is refused', () => {
  const weight = new Parameter([8, 8], 'matrix');
  weight.name = 'proj.weight';
  const y = linear(input('x', [3, 8]), weight.tensor);
  weight.dtype = 'f32';
  assert.throws(() => plan({ y }, FACTS, LIMITS), /proj\.weight \(8, 8\) was traced as f16 and is stored as f32 since/);
  assert.not.throws(() => plan({ y: linear(input('x', [3, 8]), weight.tensor) }, FACTS, LIMITS));
});

test('a tensor above the binding limit is refused with its name and the numbers', () => {
  const limits = { ...LIMITS, maxStorageBufferBindingSize: 10_000 };
  const refused = (tensor: Tensor, ...words: string[]) =>
    assert.throws(
      () => plan({ tensor }, FACTS, limits),
      (error: Error) => error instanceof ShapeError && words.every((word) => error.message.includes(word)),
    );
  assert.is(plan({ y: exp(input('x', [2500])) }, FACTS, limits).slots[0], 10_000);
  refused(exp(input('photo', [2501])), 'photo (2501)', '10016', '10000');
  const x = input('x', [1, 16, 16, 4]);
  refused(conv2d(x, input('w', [16, 3, 3, 4])), 'conv2d (1, 14, 14, 16)', '12544', '10000');
  const ones = constant(new Float32Array(1).fill(1), [1]);
  // 1251 images of one pixel: the images fit, two moments for each do not.
  refused(groupNorm(input('x', [1251, 1]), ones, ones, 1), 'groupNorm (1251, 1)', '10016', '10000');
});

test('two inputs of one name are refused', () => {
  assert.throws(() => plan({ y: add(input('x', [3]), input('x', [3])) }, FACTS, LIMITS), /'x'/);
});

test('impossible shapes and sizes are refused where they are made', () => {
  assert.throws(
    () => input('x', [3, 0]),
    (error: Error) => error instanceof ShapeError && error.message.includes('(3, 0)'),
  );
  assert.throws(
    () => input('x', [2.5]),
    (error: Error) => error instanceof ShapeError,
  );
  assert.throws(
    () => constant(new Float32Array(5), [2, 3]),
    (error: Error) => error instanceof ShapeError && /5 values.*\(2, 3\)/.test(error.message),
  );
});

test('a deep graph does not overflow the stack', () => {
  let deep: Tensor = input('x', [4]);
  for (let i = 0; i < 20_000; i++) deep = exp(deep);
  assert.is(plan({ deep }, FACTS, LIMITS).dispatches.length, 20_000);
});

test.run();
