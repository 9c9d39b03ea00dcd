/**
 * The reference row of another trained network: `npx tsx bench/peers/esrgan/main.ts SMALL OUT` doubles every PNG file of SMALL with @upscalerjs/esrgan-medium
 * 1.0.0 (MIT; a residual dense network of UpscalerJS, trained on DIV2K) in TensorFlow.js' WebAssembly backend, for `evaluate --results esrgan=OUT`.
 * SMALL comes from `degrade --keep-small`. The peers come with `npm --prefix bench/peers/esrgan install`.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { decode } from '../../../image/decode.ts';
import { encodePng } from '../../../image/encode.ts';

const [small, out] = process.argv.slice(2);
if (!small || !out) {
  console.error('A folder of small PNG files and one for the results must be named: npx tsx bench/peers/esrgan/main.ts SMALL OUT');
  process.exit(2);
}
const require = createRequire(import.meta.url);
const tf = require('@tensorflow/tfjs');
require('@tensorflow/tfjs-backend-wasm');
await tf.setBackend('wasm');

const folder = join(dirname(require.resolve('@upscalerjs/esrgan-medium/2x')), '..', '..', '..', '..', '..', '..', 'models', 'x2');
const { modelTopology, weightsManifest } = JSON.parse(readFileSync(join(folder, 'model.json'), 'utf8'));
const files: string[] = weightsManifest.flatMap(({ paths }: { paths: string[] }) => paths);
const weightData = Uint8Array.from(Buffer.concat(files.map((path) => readFileSync(join(folder, path))))).buffer;
const weightSpecs = weightsManifest.flatMap(({ weights }: { weights: unknown[] }) => weights);
const definition = require('@upscalerjs/esrgan-medium/2x');
(definition.default ?? definition).setup?.(tf);
const model = await tf.loadLayersModel({ load: async () => ({ modelTopology, weightSpecs, weightData }) });

mkdirSync(out, { recursive: true });
for (const name of readdirSync(small).filter((name) => name.endsWith('.png'))) {
  const { width, height, data } = await decode(readFileSync(join(small, name)), name);
  const y = tf.tidy(() =>
    model
      .predict(tf.tensor(Float32Array.from(data), [1, height, width, 3]))
      .clipByValue(0, 255)
      .round(),
  );
  writeFileSync(join(out, name), encodePng({ width: 2 * width, height: 2 * height, data: Uint8Array.from(await y.data()) }));
  y.dispose();
  console.log(name);
}
