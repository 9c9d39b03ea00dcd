/** LPIPS with synthetic weights against plain loops in f64, for both backbones; and weights that are not the right ones. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { TorchRandom } from '../../core/random.ts';
import { input, sizeOf } from '../../core/tensor.ts';
import { LpipsMetric } from '../../evaluate/lpips.ts';
import { evaluate as run } from '../../gpu/program.ts';
import { createImage, type Image } from '../../image/image.ts';
import { Lpips, type LpipsBackbone, maxPool } from '../../models/lpips.ts';
import { expectedKeys } from '../../weights/attach.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import { Checkpoint } from '../../weights/checkpoint.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { testDevice } from '../support/device.ts';

const device = await testDevice();

/** Repeating values: VGG16 has 15 million weights. */
const pool = new TorchRandom(1).randn(65_537);
type Weights = Map<string, { shape: readonly number[]; data: Float32Array }>;

function weightsOf(backbone: LpipsBackbone): Weights {
  let at = 0;
  return new Map(
    [...expectedKeys(new Lpips(backbone))].map(([name, shape]) => {
      const spread = shape.length > 1 ? Math.sqrt(2 / sizeOf(shape.slice(1))) : 0.1;
      const data = new Float32Array(sizeOf(shape));
      for (let i = 0; i < data.length; i++) data[i] = pool[at++ % pool.length] * spread;
      return [name, { shape, data: name.startsWith('lin') ? data.map(Math.abs) : data }];
    }),
  );
}

const fileOf = (weights: Weights, keep: (name: string) => boolean) =>
  bytesSource(
    'weights.safetensors',
    encodeSafetensors([...weights].filter(([name]) => keep(name)).map(([name, tensor]) => [name, { dtype: 'F32' as const, ...tensor }])),
  );

function photo(width: number, height: number, seed: number): Image {
  const image = createImage(width, height);
  image.data.set(new TorchRandom(seed).rand(image.data.length).map((value) => Math.floor(value * 256)));
  return image;
}

/** A feature map, channel by channel. */
interface Map64 {
  channels: number;
  height: number;
  width: number;
  data: Float64Array;
}

function convolve(
  x: Map64,
  { shape, data }: { shape: readonly number[]; data: Float32Array },
  bias: Float32Array,
  stride: number,
  padding: number,
): Map64 {
  const [outs, ins, size] = shape;
  const [height, width] = [x.height, x.width].map((side) => Math.floor((side + 2 * padding - size) / stride) + 1);
  const y = new Float64Array(outs * height * width);
  for (let o = 0; o < outs; o++)
    for (let row = 0; row < height; row++)
      for (let column = 0; column < width; column++) {
        let sum = bias[o];
        for (let v = 0; v < size; v++) {
          const line = row * stride + v - padding;
          if (line < 0 || line >= x.height) continue;
          for (let u = 0; u < size; u++) {
            const across = column * stride + u - padding;
            if (across < 0 || across >= x.width) continue;
            for (
              let i = 0, from = line * x.width + across, w = (o * ins * size + v) * size + u;
              i < ins;
              i++, from += x.height * x.width, w += size * size
            )
              sum += x.data[from] * data[w];
          }
        }
        y[(o * height + row) * width + column] = Math.max(0, sum); // relu
      }
  return { channels: outs, height, width, data: y };
}

function pooled(x: Map64, size: number): Map64 {
  const [height, width] = [x.height, x.width].map((side) => Math.floor((side - size) / 2) + 1);
  const data = new Float64Array(x.channels * height * width).map((_, i) => {
    const [c, row, column] = [Math.floor(i / (height * width)), Math.floor(i / width) % height, i % width];
    let most = Number.NEGATIVE_INFINITY;
    for (let v = 0; v < size; v++)
      for (let u = 0; u < size; u++) most = Math.max(most, x.data[(c * x.height + 2 * row + v) * x.width + 2 * column + u]);
    return most;
  });
  return { channels: x.channels, height, width, data };
}

/** Position of each convolution in torchvision's features, its stride and padding, the window of a pooling before it, and whether LPIPS listens. */
const LAYERS: Record<LpipsBackbone, [position: number, stride: number, padding: number, pool: number, tap: boolean][]> = {
  alexnet: [
    [0, 4, 2, 0, true],
    [3, 1, 2, 3, true],
    [6, 1, 1, 3, true],
    [8, 1, 1, 0, true],
    [10, 1, 1, 0, true],
  ],
  vgg16: [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28].map((position) => [
    position,
    1,
    1,
    [5, 10, 17, 24].includes(position) ? 2 : 0,
    [2, 7, 14, 21, 28].includes(position),
  ]),
};

function expected(backbone: LpipsBackbone, weights: Weights, a: Image, b: Image): number {
  const taps = [a, b].map(({ width, height, data }) => {
    const [mean, deviation] = [
      [-0.03, -0.088, -0.188],
      [0.458, 0.448, 0.45],
    ];
    const values = new Float64Array(3 * height * width);
    for (let i = 0; i < height * width; i++)
      for (let c = 0; c < 3; c++) values[c * height * width + i] = (data[3 * i + c] / 127.5 - 1 - mean[c]) / deviation[c];
    let x: Map64 = { channels: 3, height, width, data: values };
    return LAYERS[backbone].flatMap(([position, stride, padding, size, tap]) => {
      if (size > 0) x = pooled(x, size);
      x = convolve(x, weights.get(`features.${position}.weight`)!, weights.get(`features.${position}.bias`)!.data, stride, padding);
      return tap ? [x] : [];
    });
  });
  return taps[0].reduce((total, x, n) => {
    const [y, head, pixels] = [taps[1][n], weights.get(`lin${n}.model.1.weight`)!.data, x.height * x.width];
    let sum = 0;
    for (let p = 0; p < pixels; p++) {
      const length = ({ data, channels }: Map64) => {
        let squares = 0;
        for (let c = 0; c < channels; c++) squares += data[c * pixels + p] ** 2;
        return Math.sqrt(squares) + 1e-10;
      };
      const [lx, ly] = [length(x), length(y)];
      for (let c = 0; c < x.channels; c++) sum += head[c] * (x.data[c * pixels + p] / lx - y.data[c * pixels + p] / ly) ** 2;
    }
    return total + sum / pixels;
  }, 0);
}

for (const [backbone, width, height] of [
  ['alexnet', 70, 43],
  ['vgg16', 33, 32],
] as const) {
  test(`${backbone}: the distance is that of plain loops`, async () => {
    const weights = weightsOf(backbone);
    const heads = (name: string) => name.startsWith('lin');
    const before = device.memory.buffers;
    const metric = LpipsMetric.of(device, await Checkpoint.open([fileOf(weights, (name) => !heads(name)), fileOf(weights, heads)]));
    const [a, b] = [photo(width, height, 2), photo(width, height, 3)];
    const distance = await metric.distance(a, b);
    const truth = expected(backbone, weights, a, b);
    assert.ok(Math.abs(distance - truth) < 2e-6 * truth, `${distance}, expected ${truth}`);
    assert.is(await metric.distance(a, a), 0);
    assert.is(await metric.distance(b, a), distance, 'the same both ways');
    metric.close();
    assert.is(device.memory.buffers, before);
  });
}

test('max pooling of every size around the edge', async () => {
  const random = new TorchRandom(4);
  for (const window of [2, 3] as const)
    for (const [h, w] of [
      [window, 8],
      [9, window + 1],
      [6, 7],
    ]) {
      const x = random.rand(2 * h * w * 3);
      const result = await run(device, maxPool(input('x', [2, h, w, 3]), window), { x });
      const [rows, columns] = [h, w].map((side) => Math.floor((side - window) / 2) + 1);
      assert.is(result.length, 2 * rows * columns * 3);
      result.forEach((value, i) => {
        const [n, row, column, c] = [
          Math.floor(i / (rows * columns * 3)),
          Math.floor(i / (columns * 3)) % rows,
          Math.floor(i / 3) % columns,
          i % 3,
        ];
        const inside = Array.from({ length: window * window }, (_, k) => {
          const [v, u] = [2 * row + Math.floor(k / window), 2 * column + (k % window)];
          return x[((n * h + v) * w + u) * 3 + c];
        });
        assert.is(value, Math.max(...inside));
      });
    }
});

test('weights that are missing or of another backbone are named', async () => {
  const [alex, vgg] = [weightsOf('alexnet'), weightsOf('vgg16')];
  const heads = (name: string) => name.startsWith('lin');
  const refused = async (files: ReturnType<typeof fileOf>[], text: RegExp) => {
    const checkpoint = await Checkpoint.open(files);
    assert.throws(
      () => LpipsMetric.of(device, checkpoint),
      (error: Error) => error instanceof UserError && text.test(error.message),
    );
  };
  await refused([fileOf(alex, (name) => !heads(name))], /no tensor lin0.*Give the LPIPS heads for alexnet too/);
  await refused([fileOf(alex, heads)], /no tensor features\.0.*Give torchvision's alexnet too/);
  await refused(
    [fileOf(vgg, (name) => !heads(name)), fileOf(alex, heads)],
    /lin1\.model\.1\.weight is \[1,192,1,1\] and should be \[1,128,1,1\]/,
  );
});

test.run();
