/** Finding faces: the network against plain sums, the weights of the package, and photos with and without faces. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { UserError } from '../../core/errors.ts';
import { host } from '../../host/node.ts';
import { crop, paste } from '../../image/compose.ts';
import { decode } from '../../image/decode.ts';
import { createImage } from '../../image/image.ts';
import { resize } from '../../image/resize.ts';
import { faceFinder } from '../../restore/face-finder.ts';
import { FACE_FILES, FACE_PACKAGE, type Face } from '../../restore/faces.ts';
import { faceNetwork, readFaceWeights } from '../../restore/tiny-face-detector.ts';
import { projectFile } from '../support/fixtures.ts';

const read = (file: string) => new Uint8Array(readFileSync(createRequire(import.meta.url).resolve(`${FACE_PACKAGE}/${file}`)));
const [manifest, bytes] = FACE_FILES.map(read);

const photo = async (name: string) => decode(await projectFile(`demo/photos/${name}`), name);
const find = faceFinder(host)!;

/** Whether a face's middle lies where it should. */
const isAt = ({ x, y, width, height }: Face, cx: number, cy: number, side: number) =>
  Math.hypot(x + width / 2 - cx, y + height / 2 - cy) < side / 2 && width > side / 2 && width < side * 2;

test('a face is found, also small, twice, or turned over', async () => {
  const astronaut = await photo('astronaut.png');
  const [face, ...others] = await find(astronaut);
  assert.is(others.length, 0);
  const side = face.width;
  const [cx, cy] = [face.x + side / 2, face.y + face.height / 2];
  assert.ok(face.score > 0.9 && cy < astronaut.height * 0.7, JSON.stringify(face));
  const small = resize(astronaut, astronaut.width >> 1, astronaut.height >> 1, 'bicubic');
  const both = createImage(600, 400);
  paste(both, small, 20, 30);
  paste(both, small, 320, 200);
  const pair = await find(both);
  assert.is(pair.length, 2);
  for (const [x, y] of [
    [20, 30],
    [320, 200],
  ])
    assert.ok(
      pair.some((each) => isAt(each, x + cx / 2, y + cy / 2, side / 2)),
      JSON.stringify(pair),
    );
});

test('where there is none, none is found', async () => {
  for (const name of ['cat.png', 'dandelion.png']) assert.equal(await find(await photo(name)), [], name);
  assert.equal(await find(createImage(3, 700)), []);
});

test('the network is the sum that its layers say, at odd cells', () => {
  const weights = readFaceWeights(manifest, bytes);
  const [width, height] = [96, 32];
  const data = Float32Array.from({ length: width * height * 3 }, (_, i) => Math.sin(i * 0.37) / 2);
  const answer = faceNetwork(weights, { width, height, channels: 3, data });
  assert.equal([answer.width, answer.height, answer.channels], [3, 1, 25]);
  // The same in f64, written as sums over taps, by another order of loops.
  type Map3 = number[][][];
  const leaky = (x: number) => (x > 0 ? x : x * Math.fround(0.1));
  const pool = (x: Map3, step: number): Map3 =>
    Array.from({ length: Math.ceil(x.length / step) }, (_, r) =>
      Array.from({ length: Math.ceil(x[0].length / step) }, (_, q) =>
        x[0][0].map((_, c) =>
          Math.max(...[0, 1].flatMap((i) => [0, 1].map((j) => x[r * step + i]?.[q * step + j]?.[c] ?? Number.NEGATIVE_INFINITY))),
        ),
      ),
    );
  let x: Map3 = Array.from({ length: height - 2 }, (_, r) =>
    Array.from({ length: width - 2 }, (_, q) =>
      Array.from({ length: 16 }, (_, c) => {
        let sum = weights.first.bias[c];
        for (let i = 0; i < 3; i++)
          for (let j = 0; j < 3; j++)
            for (let k = 0; k < 3; k++)
              sum += data[((r + i) * width + q + j) * 3 + k] * weights.first.weights[((i * 3 + j) * 3 + k) * 16 + c];
        return leaky(sum);
      }),
    ),
  );
  x = pool(x, 2);
  for (const [n, { depthwise, pointwise }] of weights.separable.entries()) {
    const [channels, out] = [x[0][0].length, pointwise.bias.length];
    const spread = x.map((row, r) =>
      row.map((_, q) =>
        Array.from({ length: channels }, (_, k) => {
          let sum = 0;
          for (let i = -1; i <= 1; i++)
            for (let j = -1; j <= 1; j++) sum += (x[r + i]?.[q + j]?.[k] ?? 0) * depthwise[((i + 1) * 3 + j + 1) * channels + k];
          return sum;
        }),
      ),
    );
    const mixed = spread.map((row) =>
      row.map((pixel) =>
        Array.from({ length: out }, (_, c) =>
          leaky(pixel.reduce((sum, value, k) => sum + value * pointwise.weights[k * out + c], pointwise.bias[c])),
        ),
      ),
    );
    x = pool(mixed, n < weights.separable.length - 1 ? 2 : 1);
  }
  const wanted = x
    .flat()
    .flatMap((pixel) =>
      Array.from({ length: 25 }, (_, c) =>
        pixel.reduce((sum, value, k) => sum + value * weights.last.weights[k * 25 + c], weights.last.bias[c]),
      ),
    );
  for (const [i, value] of wanted.entries())
    assert.ok(Math.abs(answer.data[i] - value) < 1e-4 * (1 + Math.abs(value)), `${i}: ${answer.data[i]} for ${value}`);
});

test('a package that is not installed is named, and a host without packages finds none', async () => {
  const { packageFile } = host;
  const missing = faceFinder({ packageFile: (name, path) => packageFile!(`${name}-of-nobody`, path) });
  await missing!(createImage(1, 1)).then(
    () => assert.unreachable(),
    ({ code, message }) => assert.equal([code, /face-api-of-nobody.*is not installed/.test(message)], ['no-package', true]),
  );
  assert.is(faceFinder({}), null);
});

test('weights that are none are refused', () => {
  const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const refuses = (list: Uint8Array, data: Uint8Array, why: RegExp) => {
    try {
      readFaceWeights(list, data);
      assert.unreachable();
    } catch (error) {
      assert.instance(error, UserError);
      assert.match((error as Error).message, why);
    }
  };
  refuses(manifest, bytes.subarray(0, 1000), /conv\d\/\w+ is cut off/);
  refuses(new Uint8Array(3), bytes, /no JSON/);
  refuses(text([{}]), bytes, /there is no list/);
  refuses(
    text([{ weights: [{ name: 'conv0/filters', shape: [1e9], quantization: { scale: 1, min: 0 } }] }]),
    bytes,
    /lacks its name, shape or scale/,
  );
  refuses(text([{ weights: [] }]), bytes, /conv0\/filters has no numbers and must have 432/);
});

test('part of a face at the border is bounded by the photo', async () => {
  const astronaut = await photo('astronaut.png');
  const [face] = await find(astronaut);
  const cut = Math.max(0, Math.round(face.x + face.width * 0.1));
  for (const each of await find(crop(astronaut, cut, 0, astronaut.width - cut, astronaut.height))) assert.ok(each.x < astronaut.width);
});

test.run();
