/** Weights in blocks of 8 and 4 bits: the format, its error, and what is stored so. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type BlockDType, blockBytes, dequantise, quantise } from '../../core/blocks.ts';
import { ShapeError } from '../../core/errors.ts';
import { Parameter } from '../../core/module.ts';
import { TorchRandom } from '../../core/random.ts';
import { GPU_COPY_DST, GPU_MAP_READ } from '../../gpu/usage.ts';
import { recorded } from '../../verify/block-weight.ts';
import { testDevice } from '../support/device.ts';

const BOTH: BlockDType[] = ['q8', 'q4'];
const normal = (count: number, std = 1) => new TorchRandom(3).randn(count).map((value) => value * std);

const relativeError = (values: Float32Array, others: ArrayLike<number>) => {
  let [error, size] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    error += (values[i] - others[i]) ** 2;
    size += values[i] ** 2;
  }
  return Math.sqrt(error / size);
};

test('records hold 64 values in 68 or 36 bytes, and an odd block takes a whole one', () => {
  assert.is(blockBytes('q8', 640), 680);
  assert.is(blockBytes('q4', 640), 360);
  assert.is(blockBytes('q8', 96), 136);
  for (const dtype of BOTH) assert.is(quantise(dtype, normal(96)).length, blockBytes(dtype, 96));
});

test('values come back as the documented format says, bit for bit', () => {
  for (const dtype of BOTH) {
    for (const std of [1, 1e-3, 3e-7, 9000]) {
      const values = normal(5 * 32, std);
      const bytes = quantise(dtype, values);
      assert.equal(
        Array.from(dequantise(dtype, bytes, values.length)),
        Array.from(recorded(dtype, bytes, values.length)),
        `${dtype} ${std}`,
      );
    }
  }
});

test('rounding is to nearest: no value is off by more than half a step of its block', () => {
  const values = normal(64 * 32, 0.02);
  const back = dequantise('q8', quantise('q8', values), values.length);
  for (let i = 0; i < values.length; i++) {
    const block = values.subarray(i - (i % 32), i - (i % 32) + 32);
    const step = Math.max(...block.map(Math.abs)) / 127;
    assert.ok(Math.abs(values[i] - back[i]) <= 0.502 * step, `element ${i}`);
  }
});

test('the error on normally distributed weights: 0.53 % in q8 and 8.2 % in q4, at every magnitude that f16 has', () => {
  for (const std of [1, 1e-3, 4e-5, 8000]) {
    const values = normal(2 ** 16, std);
    const error = (dtype: BlockDType) => relativeError(values, dequantise(dtype, quantise(dtype, values), values.length));
    assert.ok(error('q8') < 0.0055, `q8 at ${std}: ${error('q8')}`);
    assert.ok(error('q4') < 0.083, `q4 at ${std}: ${error('q4')}`);
  }
});

test('zeros, lone values and the largest f16 are exact or nearly so', () => {
  for (const dtype of BOTH) {
    const zeros = new Float32Array(64);
    assert.equal(Array.from(dequantise(dtype, quantise(dtype, zeros), 64)), Array.from(zeros));
    for (const value of [1, -1, 0.3, -65504, 65504, 1e-7]) {
      const lone = new Float32Array(32);
      lone[17] = value;
      const back = dequantise(dtype, quantise(dtype, lone), 32);
      assert.ok(Math.abs(back[17] - value) <= Math.max(0.13 * Math.abs(value), 6e-8), `${dtype} ${value}: ${back[17]}`);
      assert.ok(back.every((other, i) => i === 17 || other === 0));
    }
  }
});

test('counts that are not in whole blocks are refused', () => {
  for (const dtype of BOTH)
    assert.throws(
      () => quantise(dtype, new Float32Array(40)),
      (error: Error) => error instanceof ShapeError,
    );
});

test('a weight given as values is rounded in the order in which it is stored', async () => {
  const device = await testDevice();
  const before = device.memory.bytes;
  for (const dtype of BOTH) {
    const parameter = new Parameter([32, 64, 3, 2], 'conv');
    parameter.dtype = dtype;
    const values = normal(32 * 64 * 6);
    const stored = new Float32Array(values.length);
    for (let o = 0; o < 32; o++)
      for (let c = 0; c < 64; c++) for (let p = 0; p < 6; p++) stored[(o * 6 + p) * 64 + c] = values[(o * 64 + c) * 6 + p];
    const expected = quantise(dtype, stored);
    device.residency.upload(parameter, values);
    const staging = device.buffer('read back', expected.length, GPU_COPY_DST | GPU_MAP_READ);
    const encoder = device.gpu.createCommandEncoder();
    encoder.copyBufferToBuffer(device.residency.bufferOf(parameter)!, 0, staging, 0, expected.length);
    device.gpu.queue.submit([encoder.finish()]);
    await device.settle(staging.mapAsync(1));
    assert.equal(new Uint8Array(staging.getMappedRange().slice(0)), expected, dtype);
    device.release(staging);
    device.residency.release(parameter);
  }
  assert.is(device.memory.bytes, before);
});

test.run();
