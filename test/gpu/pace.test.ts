/** Bounded submits: no submit and no dispatch above the budget, the same bits however work is divided, and a speed that is learnt. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AdapterFacts } from '../../core/adapter.ts';
import type { Plan } from '../../core/plan.ts';
import { input, type Tensor } from '../../core/tensor.ts';
import { Clock } from '../../gpu/clock.ts';
import { Device } from '../../gpu/device.ts';
import { Pace } from '../../gpu/pace.ts';
import { Profile } from '../../gpu/profiler.ts';
import { compile } from '../../gpu/program.ts';
import { attention } from '../../kernels/attention.ts';
import { conv2d } from '../../kernels/conv2d.ts';
import { plan } from '../../kernels/fusion.ts';
import { gradient } from '../../kernels/gradient.ts';
import { groupNorm } from '../../kernels/group-norm.ts';
import { linear } from '../../kernels/linear.ts';
import { softmax } from '../../kernels/softmax.ts';
import { MANY } from '../../kernels/tile-choice.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { Supir } from '../../models/supir.ts';
import { noiseLoss } from '../../train/loss.ts';
import { testDevices } from '../support/device.ts';
import { FACTS, HALVES, LIMITS } from '../support/facts.ts';
import { over } from '../support/faulty-gpu.ts';

const MOST = 65535;

const workOf = ({ dispatches }: Plan) =>
  dispatches.map(({ flops, bytes, threads, shader }) => ({ flops, bytes, groups: Math.ceil(threads / shader.workgroup) }));

/** Checks that every workgroup is there once and no submit above the budget, and returns how many submits there are. */
function checkSubmits(name: string, planned: Plan, pace: Pace): number {
  const work = workOf(planned);
  const submits = pace.submits(work, MOST);
  const next = work.map(() => 0);
  for (const portions of submits) {
    let seconds = 0;
    for (const { dispatch, first, groups } of portions) {
      assert.is(first, next[dispatch], `${name}: workgroups in order`);
      next[dispatch] += groups;
      const { flops, bytes, groups: all } = work[dispatch];
      seconds += (pace.expect({ flops, bytes }) * groups) / all;
    }
    const single = portions.length === 1 && portions[0].groups === 1;
    // A part is a whole number of workgroups, so one that is divided into few may be one of them too long.
    const [{ dispatch, groups }] = portions;
    const one = pace.expect(work[dispatch]) / work[dispatch].groups;
    const allowed = portions.length === 1 && groups < work[dispatch].groups ? pace.seconds + one : pace.seconds * (1 + 1e-9);
    assert.ok(single || seconds <= allowed, `${name}: ${seconds} s of ${pace.seconds}`);
  }
  assert.equal(
    next,
    work.map(({ groups }) => groups),
    `${name}: every workgroup once`,
  );
  return submits.length;
}

const SCHEDULES: Partial<AdapterFacts>[] = [
  { schedule: 'tiled' },
  { schedule: 'matrix', matrixUnit: HALVES },
  { schedule: 'subgroup', subgroupSizes: [8, 8] },
];

test('published sizes: no submit and no dispatch above the budget, at three speeds, in every schedule', () => {
  const supir = new Supir(SUPIR_SDXL);
  const { first_stage_model, conditioner } = supir;
  const unet = (side: number) => supir.denoiserGraph([1, side, side, 4], 77, 2);
  const z = input('z', [1, 128, 128, 4]);
  const decoded = first_stage_model.decode(z);
  const graphs: Record<string, Record<string, Tensor>> = {
    'latent 32': unet(32),
    'latent 64': unet(64),
    'latent 128': unet(128),
    text: { ...conditioner.forward() },
    encoder: { y: first_stage_model.encode(input('x', [1, 1024, 1024, 3]), 'encoder') },
    decoder: { y: decoded },
    'gradient of the decoder': { dz: gradient(decoded, [z], { upstream: input('dy', decoded.shape) })[0] },
    'a training step': trainingStep(supir),
  };
  const wide = { ...LIMITS, maxStorageBufferBindingSize: 2 ** 31 };
  for (const facts of SCHEDULES) {
    for (const [name, graph] of Object.entries(graphs)) {
      // Other schedules divide the work otherwise, not the graphs.
      if (facts.schedule !== 'tiled' && !['latent 128', 'decoder'].includes(name)) continue;
      const planned = plan(graph, { ...FACTS, ...facts }, wide);
      if (facts.schedule === 'tiled' && (name === 'latent 32' || name === 'latent 64')) {
        const gflop = (dispatches: typeof planned.dispatches) => dispatches.reduce((sum, { flops }) => sum + flops, 0) / 1e9;
        const few = planned.dispatches.filter(({ threads, shader }) => threads / shader.workgroup < MANY);
        assert.ok(gflop(few) < 0.02 * gflop(planned.dispatches), `${name}: ${gflop(few)} GFLOP in few workgroups`);
      }
      const counts = [2e12, 4e11, 2e10].map((flops) => {
        const pace = new Pace({ software: false });
        pace.flopsPerSecond = flops;
        return checkSubmits(`${name}, ${facts.schedule}, ${flops}`, planned, pace);
      });
      assert.ok(counts[0] <= counts[1] && counts[1] <= counts[2], `${name}: ${counts}`);
      if (name === 'latent 128') assert.ok(counts[0] > 8 && counts[2] > 800, `${name}: ${counts}`);
    }
  }
});

/** The gradient of denoising's loss, back through UNet and control network to the latent that both read. */
function trainingStep({ model: { diffusion_model, control_model } }: Supir): Record<string, Tensor> {
  const [x, hint, noise] = ['x', 'hint', 'noise'].map((name) => input(name, [1, 32, 32, 4]));
  const [timestep, context, vector] = [input('timestep', [1, 320]), input('context', [1, 77, 2048]), input('vector', [1, 2816])];
  const control = { features: control_model.forward(x, hint, timestep, context, vector), scale: 1 };
  const predicted = diffusion_model.forward(x, timestep, context, vector, control);
  const { loss } = noiseLoss(predicted, noise, input('weight', [1]));
  return { loss, dx: gradient(loss, [x])[0] };
}

/** Learns nothing, so that a test knows its submits. */
class SteadyPace extends Pace {
  override learn(): void {}
}

/** A device that keeps count of the workgroups of every submit that computes. */
function watched(device: GPUDevice): { gpu: GPUDevice; submitted: number[] } {
  const submitted: number[] = [];
  const groups = new WeakMap<object, number>();
  const encoderOf = (encoder: GPUCommandEncoder) => {
    let count = 0;
    return over(encoder, {
      beginComputePass: (given?: GPUComputePassDescriptor) => {
        const pass = encoder.beginComputePass(given);
        const dispatchWorkgroups = (x: number, y = 1, z = 1) => {
          count += x * y * z;
          pass.dispatchWorkgroups(x, y, z);
        };
        return over(pass, { dispatchWorkgroups });
      },
      finish: () => {
        const commands = encoder.finish();
        groups.set(commands, count);
        return commands;
      },
    });
  };
  const submit = (commands: GPUCommandBuffer[]) => {
    const count = commands.reduce((sum, each) => sum + (groups.get(each) ?? 0), 0);
    if (count > 0) submitted.push(count);
    device.queue.submit(commands);
  };
  const gpu = over(device, { queue: over(device.queue, { submit }), createCommandEncoder: () => encoderOf(device.createCommandEncoder()) });
  return { gpu, submitted };
}

test('the same bits, whole and divided, in every schedule', async () => {
  const x = input('x', [2, 19, 23, 64]);
  const w = input('w', [48, 3, 3, 64]);
  const p = input('p', [64, 64]);
  const one = input('one', [64]);
  const normed = groupNorm(x, one, one, 8, 1e-5);
  const convolved = conv2d(normed, w, null, { padding: 1 });
  const q = linear(x, p);
  const attended = attention(q, x, x, 2);
  const dy = input('dy', attended.shape);
  const outputs = { convolved, attended, shares: softmax(q), dp: gradient(attended, [p], { upstream: dy })[0] };
  const ramp = (n: number, step: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i * step));
  const inputs = { x: ramp(x.size, 0.37), w: ramp(w.size, 0.11), p: ramp(p.size, 0.23), one: ramp(64, 1), dy: ramp(attended.size, 0.3) };
  for (const device of await testDevices()) {
    const run = async (seconds: number) => {
      const pace = new SteadyPace({ software: true, seconds });
      const { gpu, submitted } = watched(device.gpu);
      const profiled = new Device(gpu, device.facts, device.settle, pace);
      const program = await compile(profiled, outputs);
      const submits = checkSubmits(`${device.facts.schedule}, ${seconds} s`, program.plan, pace);
      const first = await program.run(inputs);
      const planned = pace.submits(workOf(program.plan), MOST).map((portions) => portions.reduce((sum, { groups }) => sum + groups, 0));
      assert.equal(submitted, planned, `workgroups of every submit, ${device.facts.schedule}`);
      const profile = (profiled.profile = new Profile());
      const again = await program.run(inputs);
      // However it is divided, a kernel's work counts once.
      const counted = profile.kernels().reduce((sum, { gflop }) => sum + gflop, 0);
      const all = program.plan.dispatches.reduce((sum, { flops }) => sum + flops, 0) / 1e9;
      assert.ok(Math.abs(counted - all) < 1e-9 * all, `${counted} GFLOP of ${all}`);
      program.dispose();
      return { submits, first, again };
    };
    const whole = await run(1e9);
    const divided = await run(4e-4);
    assert.is(whole.submits, 1);
    assert.ok(divided.submits > 20, `${divided.submits} submits`);
    for (const name of Object.keys(outputs) as (keyof typeof outputs)[]) {
      assert.equal(divided.first[name], whole.first[name], `${name}, ${device.facts.schedule}`);
      assert.equal(divided.again[name], whole.first[name], `${name} again, ${device.facts.schedule}`);
    }
  }
});

test('a time that holds not even one workgroup makes submits of one each, and one that is none is refused', () => {
  const work = [{ flops: 1e12, bytes: 0, groups: 3 }];
  const portions = new Pace({ software: true, seconds: 1e-9 }).submits(work, MOST);
  assert.equal(
    portions,
    [0, 1, 2].map((first) => [{ dispatch: 0, first, groups: 1 }]),
  );
  for (const seconds of [0, -1, Number.NaN]) assert.throws(() => new Pace({ software: true, seconds }), /it must be more than 0/);
});

test('of many short dispatches the first are submitted while the others are recorded', () => {
  const work = Array.from({ length: 300 }, () => ({ flops: 1, bytes: 1, groups: 2 }));
  const lengths = (seconds: number, software = false) => new Pace({ software, seconds }).submits(work, MOST).map(({ length }) => length);
  assert.equal(lengths(0.25), [128, 128, 44]);
  assert.equal(lengths(0.25, true), [32, 268]); // a processor stands still between two submits
  assert.equal(lengths(Number.POSITIVE_INFINITY), [300]);
});

test('while a screen is to go on moving submits are short and one at a time, but not where a host is slow to tell their end', () => {
  const screen = { isSeen: false };
  const pace = new Pace({ software: false, screen });
  const work = Array.from({ length: 4 }, () => ({ flops: 0.1 * pace.flopsPerSecond, bytes: 0, groups: 100 }));
  const longest = () =>
    Math.max(...pace.submits(work, MOST).map((portions) => portions.reduce((sum, { groups }) => sum + groups * 1e-3, 0)));
  assert.equal([longest(), pace.mostUnderWay], [0.2, 2]);
  screen.isSeen = true;
  // A part is a whole number of workgroups, of a millisecond each here.
  assert.ok(longest() <= 1 / 30 + 1e-3 && longest() > 1 / 60, `${longest()} s`);
  assert.is(pace.mostUnderWay, 1);
  pace.afterLoss();
  pace.afterLoss();
  pace.afterLoss();
  pace.afterLoss();
  assert.ok(longest() <= 0.25 / 16 + 1e-3, 'a loss counts for either');
  pace.seconds = 0.25;
  pace.roundTrip = 0.01;
  assert.is(pace.limit, 0.08);
  pace.roundTrip = 0.1;
  assert.equal([pace.limit, pace.mostUnderWay], [0.25, 2]);
});

test('speed is learnt from what submits take, step by step, and the budget halves after a loss', () => {
  const pace = new Pace({ software: false, seconds: 0.25 });
  const work = { flops: 1e12, bytes: 0 };
  const first = pace.expect(work);
  for (let i = 0; i < 30; i++) pace.learn(pace.expect(work), first / 8);
  assert.ok(Math.abs(pace.expect(work) / (first / 8) - 1) < 0.01, `${pace.expect(work)}`);
  // One that a compiler held up changes the estimate by no more than fourfold.
  const before = pace.expect(work);
  pace.learn(before, before * 1000);
  assert.ok(pace.expect(work) <= before * 4.0001);
  for (let i = 0; i < 30; i++) pace.learn(pace.expect(work), before);
  assert.ok(Math.abs(pace.expect(work) / before - 1) < 0.01);
  pace.afterLoss();
  assert.is(pace.seconds, 0.125);
});

test('submits are timed one by one, small ones not at all, and few are under way', async () => {
  const pace = new Pace({ software: true, seconds: 1e-3 });
  const timed: number[] = [];
  let waiting = 0;
  let most = 0;
  pace.onPortion = (planned) => void timed.push(planned);
  const gpu = { queue: { onSubmittedWorkDone: () => new Promise<void>((done) => setTimeout(done, 5)) } } as unknown as GPUDevice;
  const clock = new Clock(gpu, pace, async (promise) => {
    most = Math.max(most, ++waiting);
    await promise;
    waiting--;
    return promise;
  });
  const seconds = (share: number) => ({ flops: share * pace.seconds * pace.flopsPerSecond, bytes: 0 });
  for (let i = 0; i < 20; i++) {
    await clock.room();
    clock.submitted([seconds(1 / 100)]);
  }
  assert.is(timed.length, 0);
  for (let i = 0; i < 5; i++) {
    await clock.room();
    clock.submitted([seconds(0.5)]);
  }
  await clock.told();
  assert.is(timed.length, 5);
  assert.ok(most <= 2, `${most} under way`);
});

test('a run can be stopped between two submits', async () => {
  const [device] = await testDevices();
  const paced = new Device(device.gpu, device.facts, device.settle, new SteadyPace({ software: true, seconds: 1e-5 }));
  const stop = new AbortController();
  const x = input('x', [400, 256]);
  const program = await compile(paced, { y: softmax(x) }, stop.signal);
  const values = { x: new Float32Array(x.size).fill(1) };
  let submits = 0;
  paced.clock.room = async () => {
    if (++submits === 3) stop.abort(new Error('enough'));
  };
  const stopped = await program.run(values).then(
    () => null,
    (error) => error.message,
  );
  assert.is(stopped, 'enough');
  assert.is(submits, 3);
  program.dispose();
});

test.run();
