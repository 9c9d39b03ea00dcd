/**
 * Philox against the known answers of Random123 (Salmon et al. 2011), and the normals against what PyTorch printed on real GPUs (four places):
 * seed 0 in a public notebook, seed 1 on an A100 and an H100 in pytorch issue 143086.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { philox4x32, TorchCudaRandom } from '../core/philox.ts';

test('Philox 4x32-10: the known answers', () => {
  const known: [counter: number[], key: [number, number], answer: number[]][] = [
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [new Array(4).fill(0xffffffff), [0xffffffff, 0xffffffff], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ];
  for (const [counter, key, answer] of known) {
    const words = Uint32Array.from(counter);
    philox4x32(words, key);
    assert.equal([...words], answer);
  }
});

/** What PyTorch prints of a value. */
const printed = (values: Iterable<number>) => Array.from(values, (value) => value.toFixed(4));

test('torch.randn on a GPU, seed 0', () => {
  const first = new TorchCudaRandom(0).randn(16384);
  assert.equal(printed(first.subarray(0, 8)), ['-0.9247', '-0.4253', '-2.6438', '0.1452', '-0.1209', '-0.5797', '-0.6229', '-0.3284']);
});

test('which thread fills which element: nine million values with seed 1 on an A100 and on an H100', () => {
  const n = 49 * 12 * 112 * 144;
  for (const [multiprocessors, end] of [
    [108, ['0.1549', '-0.6797', '-0.1656']],
    [132, ['-0.6970', '-0.7780', '0.3267']],
  ] as const) {
    const values = new TorchCudaRandom(1, { multiprocessors }).randn(n);
    assert.equal(printed(values.subarray(0, 3)), ['-0.2963', '2.6764', '-0.1408']);
    assert.equal(printed(values.subarray(n - 3)), [...end]);
  }
});

test('up to the threads of the GPU a draw is the same on every GPU, and a second draw goes on', () => {
  const [a, b] = [new TorchCudaRandom(7, { multiprocessors: 1 }), new TorchCudaRandom(7)];
  assert.equal(a.randn(2048), b.randn(2048));
  assert.equal(a.randn(2048), b.randn(2048));
  assert.is.not(a.randn(1)[0], new TorchCudaRandom(7).randn(1)[0]);
});

test('a draw takes as many calls as its fullest thread', () => {
  const gpu = { multiprocessors: 1 };
  const twice = new TorchCudaRandom(3, gpu);
  twice.randn(2048 * 4 + 1); // two calls
  const once = new TorchCudaRandom(3, gpu);
  once.randn(2048);
  once.randn(2048);
  assert.equal(twice.randn(100), once.randn(100));
});

test('the normals are normal', () => {
  const values = new TorchCudaRandom(99).randn(1 << 16);
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const variance = values.reduce((a, b) => a + b * b, 0) / values.length - mean * mean;
  assert.ok(Math.abs(mean) < 0.02, `mean ${mean}`); // five standard errors
  assert.ok(Math.abs(variance - 1) < 0.03, `variance ${variance}`);
});

test('seeds must be whole', () => {
  assert.throws(() => new TorchCudaRandom(1.5), /not a whole number/);
});

test.run();
