/**
 * AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101) on weights that live on the GPU, with all that it keeps of them: moments, the sum of a step's
 * gradients, and a moving average, which samples better than the weights themselves (Polyak & Juditsky 1992; Karras et al. 2023). All are f32 in the
 * order in which weights are stored; the host reads them to save them, and never else. The formula stands in kernels/adamw.ts.
 */
import { DeviceError, UserError } from '../core/errors.ts';
import { checkpointOrder } from '../core/stored-order.ts';
import { input, Parameter, scalar, sizeOf, type Tensor } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import { compile, type Program } from '../gpu/program.ts';
import { adamw } from '../kernels/adamw.ts';
import { collectGradient, squaresOf } from '../kernels/collect-gradient.ts';
import { exchange } from '../kernels/exchange.ts';
import { reshape } from '../kernels/reshape.ts';
import { sumAxis } from '../kernels/sum-axis.ts';
import { affine } from '../kernels/unary.ts';
import { firstOf, wholeOf } from '../kernels/weight-part.ts';

export interface AdamWOptions {
  /** Decay of the moments. Default [0.9, 0.999]. */
  betas?: readonly number[];
  /** Added to the root of the second moment. Default 1e-8. */
  epsilon?: number;
  /** Share of a weight, times the learning rate, that is taken off at each step. Default 0.01. */
  weightDecay?: number;
  /** lambda of the regulariser lambda |W|^2; of a LoRA lambda (|A|^2 + |B|^2) (arXiv 2408.17060, eq. 16). Default 0. */
  lambda?: number;
  /** Share of the moving average that a step keeps, such as 0.999; null for no average. Early steps keep less, (1 + step) / (10 + step) at most. Default null. */
  ema?: number | null;
}

/** What there is of every whole. */
export type Kept = 'weight' | 'first' | 'second' | 'average' | 'gradient';

/** Most bytes that are read at a time. */
const READ = 2 ** 26;

export class AdamW {
  readonly weights: readonly Parameter[];
  /** What the weights lie in, which is what is differentiated by and changed: themselves, but for parts of others. */
  readonly wholes: readonly Parameter[];
  /** Updates made. */
  step = 0;
  private readonly device: Device;
  private readonly options: Required<AdamWOptions>;
  private readonly kept: Record<Kept, readonly Parameter[]>;
  private readonly squares: Parameter;
  private readonly start: readonly Float32Array[];
  private placed: Promise<void> | null = null;
  private updating: Promise<Program<string>> | null = null;
  private exchanging: Promise<Program<string>> | null = null;

  /** Weights that are f32 on the GPU, and their values in the checkpoint's order. Throws UserError for options out of range. */
  constructor(device: Device, weights: readonly Parameter[], values: readonly Float32Array[], options: AdamWOptions = {}) {
    const { betas = [0.9, 0.999], epsilon = 1e-8, weightDecay = 0.01, lambda = 0, ema = null } = options;
    if (!(betas.every((beta) => beta >= 0 && beta < 1) && epsilon > 0 && weightDecay >= 0))
      throw new UserError(
        `AdamW: betas ${betas} must be from 0 to below 1, epsilon ${epsilon} above 0 and weight decay ${weightDecay} not negative.`,
      );
    this.device = device;
    this.weights = weights;
    this.wholes = [...new Set(weights.map(wholeOf))];
    this.start = values;
    this.options = { betas, epsilon, weightDecay, lambda, ema };
    const { wholes } = this;
    const like = (kept: Kept) => wholes.map(({ name, shape, kind }) => state(`${kept} of ${name}`, shape, kind));
    this.kept = {
      ...{ weight: wholes, first: like('first'), second: like('second'), gradient: like('gradient') },
      average: ema === null ? [] : like('average'),
    };
    for (const whole of wholes) whole.changes = 'every run';
    this.squares = state('squares', [wholes.reduce((places, { shape }) => places + squaresOf(sizeOf(shape)), 0), 4], 'vector');
  }

  /** Whether there is a moving average. */
  get averaged(): boolean {
    return this.options.ema !== null;
  }

  /** Puts the weights and what is kept of them on the GPU, where that has not been done. Throws DeviceError when memory does not suffice. */
  place(): Promise<void> {
    const { residency } = this.device;
    this.placed ??= this.device.guard('placing weights in training and their moments', () => {
      for (const parameters of [this.kept.first, this.kept.second, this.kept.gradient, [this.squares]])
        for (const parameter of parameters) residency.place(parameter);
      for (const kept of this.averaged ? (['weight', 'average'] as const) : (['weight'] as const))
        for (const [n, values] of this.start.entries()) this.write(kept, n, values);
    });
    return this.placed;
  }

  /**
   * In the graph of a pass: adds the derivatives of its loss, one a whole, to the step's gradients, with that of the regulariser. The scalar `share` says by
   * how much, and `before` is 0 in the first pass of a step, else 1. -> (4): |derivatives|^2, |step's gradients|^2, with a
   * regulariser |weights|^2, 0, over all weights.
   */
  collect(derivatives: readonly Tensor[]): Tensor {
    const { lambda } = this.options;
    const places = this.squares.shape[0];
    let place = 0;
    const each = derivatives.map((g, n) => {
      const at = place;
      place += squaresOf(g.size);
      return { g, n, at };
    });
    // In the order in which they are computed, so that none is kept for others.
    each.sort((a, b) => a.g.serial - b.g.serial);
    let squares = this.squares.tensor;
    for (const { g, n, at } of each) {
      const [w, sum] = [lambda === 0 ? null : this.wholes[n].tensor, this.kept.gradient[n].tensor];
      squares = collectGradient({ squares, g, w, sum }, { place: at, before: scalar('before'), share: scalar('share'), decay: 2 * lambda });
    }
    const sums = sumAxis(sumAxis(reshape(squares, [64, places / 64, 4]), 1), 0);
    return reshape(sums, [4]);
  }

  /** Changes the weights by the step's gradients times `shorten`. It does not wait for the GPU, whose failure the next call tells. */
  async update(learningRate: number, shorten = 1): Promise<void> {
    const { betas, epsilon, weightDecay, ema } = this.options;
    const [beta1, beta2] = betas;
    this.updating ??= this.compile((n) => {
      const [w, gradient, first, second, average] = (['weight', 'gradient', 'first', 'second', 'average'] as const).map(
        (kept) => this.kept[kept][n]?.tensor ?? null,
      );
      const [shorten, rate, root, decay, share] = ['shorten', 'rate', 'root', 'decay', 'share'].map((name) => scalar(name));
      return adamw(
        { w: w!, gradient: gradient!, first: first!, second: second!, average },
        { betas, epsilon, shorten, rate, root, decay, share },
      );
    });
    const program = await this.updating;
    const step = this.step + 1;
    await program.run({
      shorten,
      rate: learningRate / (1 - beta1 ** step),
      root: Math.sqrt(1 - beta2 ** step),
      decay: learningRate * weightDecay,
      ...(ema === null ? {} : { share: 1 - Math.min(ema, (1 + step) / (10 + step)) }),
    });
    this.step = step;
  }

  /** Lets weights and moving average change places. */
  async exchange(): Promise<void> {
    this.exchanging ??= this.compile((n) => exchange(this.kept.weight[n].tensor, this.kept.average[n].tensor));
    await (await this.exchanging).run();
  }

  /** Values of every weight, in the checkpoint's order. Throws DeviceError (wrong-values) where the GPU reads nothing. */
  async read(kept: Kept): Promise<Float32Array<ArrayBuffer>[]> {
    await this.place();
    const values: Float32Array[] = [];
    for (let from = 0; from < this.wholes.length; ) {
      const some: Parameter[] = [];
      for (let bytes = 0; from + some.length < this.wholes.length; ) {
        const next = this.kept[kept][from + some.length];
        bytes += next.bytes;
        if (some.length > 0 && bytes > READ) break;
        some.push(next);
      }
      // A number that is computed tells a GPU that drops work, whose answers would be zeros, from one that has zeros.
      const mark = affine(input('mark', [1]), 1, 1);
      const outputs: Record<string, Tensor> = { ...Object.fromEntries(some.map(({ tensor }, i) => [i, tensor])), mark };
      const program = await compile(this.device, outputs);
      try {
        const results = await program.run({ mark: Float32Array.of(this.step) });
        if (results.mark[0] !== this.step + 1)
          throw new DeviceError(
            'The weights in training could not be read: the GPU gave something else than it holds. Probably the driver dropped the work.',
            { code: 'wrong-values', values: { fault: 'unread' } },
          );
        values.push(...some.map((_, i) => results[i]));
      } finally {
        program.dispose();
      }
      from += some.length;
    }
    return this.weights.map((weight) => {
      const stored = values[this.wholes.indexOf(wholeOf(weight))];
      const own = weight === wholeOf(weight) ? stored : stored.slice(firstOf(weight), firstOf(weight) + sizeOf(weight.shape));
      return checkpointOrder(own, weight);
    });
  }

  /** Gives weight n other values, in the checkpoint's order; to be called when they are placed. Throws ShapeError for another count. */
  write(kept: Kept, n: number, values: Float32Array): void {
    const weight = this.weights[n];
    this.device.residency.upload(weight, values, this.kept[kept][this.wholes.indexOf(wholeOf(weight))], 4 * firstOf(weight));
  }

  /** Frees all but the weights. */
  async dispose(): Promise<void> {
    for (const compiled of [this.updating, this.exchanging]) {
      await compiled?.then(
        (program) => program.dispose(),
        () => undefined, // it was never made
      );
    }
    const { weight: wholes, ...kept } = this.kept;
    for (const whole of wholes) whole.changes = 'seldom';
    for (const parameter of [...Object.values(kept).flat(), this.squares]) this.device.residency.release(parameter);
  }

  /** A program that changes each whole, and gives nothing back. */
  private async compile(change: (n: number) => Tensor): Promise<Program<string>> {
    await this.place();
    const outputs = Object.fromEntries(this.wholes.map((_, n) => [n, change(n)]));
    return compile(this.device, outputs, undefined, { kept: Object.keys(outputs) });
  }
}

/** A weight of the optimiser's own, on the GPU alone. */
function state(name: string, shape: Parameter['shape'], kind: Parameter['kind']): Parameter {
  return Object.assign(new Parameter(shape, kind), { name, dtype: 'f32' as const, changes: 'every run' as const });
}
