/** Weights on the GPU under a budget: resident, leaving when idle, or streamed, with the same results and no byte too many. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DeviceError, MemoryError, UserError } from '../../core/errors.ts';
import { encodeF16 } from '../../core/half.ts';
import { Parameter } from '../../core/module.ts';
import { input, type Tensor } from '../../core/tensor.ts';
import { type Device, openDevice } from '../../gpu/device.ts';
import { compile } from '../../gpu/program.ts';
import { currentHost } from '../../host/current.ts';
import { add } from '../../kernels/binary.ts';
import { plan } from '../../kernels/fusion.ts';
import { linear } from '../../kernels/linear.ts';
import { affine } from '../../kernels/unary.ts';
import { testDevice } from '../support/device.ts';
import { refusal } from '../support/refused.ts';

const LAYERS = 12;
const SIDE = 192;
/** Bytes of a layer's matrix, which may be streamed, and of its bias, which may not. */
const MATRIX = SIDE * SIDE * 2;
const BIAS = SIDE * 4;
const x = Float32Array.from({ length: 3 * SIDE }, (_, i) => Math.sin(i));

interface Stack {
  y: Tensor;
  weights: Parameter[];
  /** Names of the weights in the order in which they were read. */
  reads: string[];
}

/** Layers on one another; `onRead` is called at every reading of a weight. */
function stack(name: string, onRead: (reads: number) => void = () => {}, from = input('x', [3, SIDE])): Stack {
  const weights: Parameter[] = [];
  const reads: string[] = [];
  const parameter = (shape: number[], kind: 'matrix' | 'vector', values: () => Float32Array | Uint16Array) => {
    const weight = new Parameter(shape, kind);
    weight.name = `${name} ${kind} ${weights.length}`;
    weight.source = {
      async read() {
        reads.push(weight.name);
        onRead(reads.length);
        return values();
      },
      readRows: () => Promise.reject(new Error('not read by rows')),
    };
    weights.push(weight);
    return weight.tensor;
  };
  let y: Tensor = from;
  for (let layer = 0; layer < LAYERS; layer++) {
    const wave = (n: number, scale: number) => Float32Array.from({ length: n }, (_, i) => scale * Math.sin(i * (layer + name.length / 3)));
    const matrix = parameter([SIDE, SIDE], 'matrix', () => encodeF16(wave(SIDE * SIDE, 0.1)));
    const bias = parameter([SIDE], 'vector', () => wave(SIDE, 0.5));
    y = add(y, linear(y, matrix, bias));
  }
  return { y, weights, reads };
}

/** Runs a stack as often as told and disposes of the program. */
async function results(device: Device, { y }: Stack, runs = 1, signal?: AbortSignal): Promise<Float32Array[]> {
  const program = await compile(device, { y }, signal);
  try {
    const all: Float32Array[] = [];
    for (let i = 0; i < runs; i++) all.push((await program.run({ x })).y);
    return all;
  } finally {
    program.dispose();
  }
}

/** The result with all weights resident. */
async function expected(device: Device, name: string): Promise<Float32Array> {
  const resident = stack(name);
  const [y] = await results(device, resident);
  for (const weight of resident.weights) device.residency.release(weight);
  return y;
}

/** Bytes of a stack's program beside weights. */
const beside = ({ facts, gpu }: Device): number => plan({ y: stack('').y }, facts, gpu.limits).bytes.total;

/**
 * Runs `body` with room for a program of a stack, its biases and so many matrices. Asserts that the budget was kept, and after the stacks that `body`
 * gives back have been released, that nothing is left.
 */
async function withRoomFor(matrices: number, body: (device: Device) => Promise<Stack[]>, device?: Device): Promise<void> {
  device ??= await testDevice();
  const { memory, residency } = device;
  const { buffers, bytes } = memory;
  residency.budget = bytes + beside(device) + LAYERS * BIAS + matrices * MATRIX;
  memory.peak = bytes;
  try {
    for (const { weights } of await body(device)) for (const weight of weights) device.residency.release(weight);
    assert.ok(memory.peak <= residency.budget, `${memory.peak} of ${residency.budget} bytes`);
  } finally {
    residency.budget = Number.POSITIVE_INFINITY;
  }
  assert.equal({ buffers: memory.buffers, bytes: memory.bytes }, { buffers, bytes });
}

const matrices = ({ reads }: Stack): number => reads.filter((name) => name.includes('matrix')).length;

let y: Float32Array;
test.before(async () => {
  y = await expected(await testDevice(), 'a');
});

test('streamed weights give the same bits, run after run, and only what does not fit is read again', async () => {
  for (const [room, streamed] of [
    [2, LAYERS],
    [6, LAYERS - 3],
    [LAYERS, 0],
  ]) {
    await withRoomFor(room, async (device) => {
      const streaming = stack('a');
      for (const each of await results(device, streaming, 3)) assert.equal(each, y);
      assert.is(matrices(streaming), LAYERS - streamed + 3 * streamed, `${room}`);
      assert.is(streaming.reads.length - matrices(streaming), LAYERS);
      return [streaming];
    });
  }
});

test('weights of what runs once are read for it alone, and results stay where there is room for them', async () => {
  const text = x.map((value) => value + 1);
  // A byte less than the results need: they are computed in every run.
  for (const missing of [0, 1]) {
    const device = await testDevice();
    const [own, steady] = [stack('a'), stack('b', undefined, input('text', [3, SIDE], 'f32', 'seldom'))];
    const joined = [2, 3, 5].reduce((sum, factor) => add(sum, affine(steady.y, factor, 0)), own.y);
    const planned = plan({ joined }, device.facts, device.gpu.limits);
    assert.is(planned.bytes.hoisted, 3 * 4 * x.length);
    assert.ok(planned.bytes.total > planned.unhoisted().bytes.total);
    const { memory, residency } = device;
    residency.budget = memory.bytes + planned.bytes.total + 2 * LAYERS * BIAS + 2 * MATRIX - missing;
    try {
      const program = await compile(device, { joined });
      const first = await program.run({ x, text });
      assert.equal(await program.run({ x }), first);
      assert.is(matrices(own), 2 * LAYERS);
      assert.is(matrices(steady), LAYERS + missing * LAYERS);
      program.dispose();
    } finally {
      residency.budget = Number.POSITIVE_INFINITY;
      for (const weight of [...own.weights, ...steady.weights]) residency.release(weight);
    }
  }
});

test('idle weights stay while there is room; those used longest ago leave first', () =>
  withRoomFor(LAYERS + 4, async (device) => {
    const [a, b] = [stack('a'), stack('b')];
    const [first] = await results(device, a);
    await results(device, a);
    assert.is(a.reads.length, 2 * LAYERS);
    await results(device, b);
    assert.is(b.reads.length, 2 * LAYERS);
    const left = a.weights.filter((weight) => !device.residency.bufferOf(weight));
    assert.equal(left, a.weights.slice(0, left.length));
    assert.ok(left.length >= 2 * (LAYERS - 4) && left.length <= 2 * (LAYERS - 3), `${left.length} left`);
    const [again] = await results(device, a);
    assert.equal(again, first);
    assert.is(a.reads.length, 2 * LAYERS + left.length);
    return [a, b];
  }));

test('what a program at work uses does not leave', () =>
  withRoomFor(2 * LAYERS, async (device) => {
    device.residency.budget += beside(device);
    const [a, b] = [stack('a'), stack('b')];
    const program = await compile(device, { y: a.y });
    const { y } = await program.run({ x });
    await results(device, b);
    assert.equal((await program.run({ x })).y, y);
    assert.is(a.reads.length, 2 * LAYERS);
    program.dispose();
    return [a, b];
  }));

test('weights that were loaded for a program without room are loaded again for the next', () =>
  withRoomFor(LAYERS, async (device) => {
    const { gpu } = device;
    const pop = gpu.popErrorScope;
    let scopes = 0;
    // The inner scope is that of validation, the outer one that of memory.
    gpu.popErrorScope = async () => {
      const error = await pop.call(gpu);
      return ++scopes === 2 ? ({ message: 'no room' } as GPUError) : error;
    };
    const short = stack('a');
    const before = device.memory.buffers;
    try {
      assert.instance(await refusal(results(device, short)), MemoryError);
    } finally {
      gpu.popErrorScope = pop;
    }
    assert.is(device.memory.buffers, before);
    assert.equal(await results(device, short), [y]);
    assert.is(short.reads.length, 2 * 2 * LAYERS);
    return [short];
  }));

test('a budget that is too small is refused with the numbers before anything is read', () =>
  withRoomFor(1, async (device) => {
    const streaming = stack('a');
    const error = await refusal(results(device, streaming));
    assert.instance(error, UserError);
    assert.match(error.message, /^\d+ [kM]B of GPU memory are allowed, and this needs \d+ [kM]B at least/);
    assert.equal(streaming.reads, []);
    return [streaming];
  }));

for (const [when, room, at] of [
  ['loading', LAYERS, 3],
  ['a streamed run', 3, 3 * LAYERS],
] as const) {
  test(`stopping in ${when} leaves a usable state`, () =>
    withRoomFor(room, async (device) => {
      const stop = new AbortController();
      const stopped = stack('a', (reads) => reads === at && stop.abort(new Error('stopped')));
      assert.is((await refusal(results(device, stopped, 9, stop.signal))).message, 'stopped');
      assert.ok(stopped.reads.length <= at + 2);
      assert.equal(await results(device, stopped), [y]);
      return [stopped];
    }));

  test(`a weight that cannot be read in ${when} leaves a usable state`, () =>
    withRoomFor(room, async (device) => {
      const damaged = stack('a', (reads) => {
        if (reads === at) throw new UserError('damaged');
      });
      assert.is((await refusal(results(device, damaged, 9))).message, 'damaged');
      assert.equal(await results(device, damaged), [y]);
      return [damaged];
    }));

  test(`a device that is lost in ${when} is told, and another goes on`, async () => {
    const host = await currentHost();
    const lost = await openDevice({ gpu: await host.gpu(), settle: host.settle });
    await withRoomFor(
      room,
      async (device) => {
        const broken = stack('a', (reads) => reads === at && device.gpu.destroy());
        assert.instance(await refusal(results(device, broken, 9)), DeviceError);
        return [broken];
      },
      lost,
    );
    lost.close();
    await withRoomFor(room, async (device) => {
      const whole = stack('a');
      assert.equal(await results(device, whole), [y]);
      return [whole];
    });
  });
}

test.run();
