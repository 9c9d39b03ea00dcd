/**
 * Trains a model of the sizes of demo/config.json from random weights: `npx tsx scripts/train-demo.ts PHOTOS HELD-OUT [FOLDER] [-- OPTIONS OF EVERY TRAINING]`. The parts follow each other, each in a folder
 * of its own below FOLDER (out/demo-model) with the settings of demo/training/, on the model that the one before left. Called again after an interruption it goes on.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const PARTS = ['vae', 'denoise-encoder', 'unet', 'control'] as const;

const project = fileURLToPath(new URL('..', import.meta.url));
const given = process.argv.slice(2);
const cut = given.indexOf('--');
const [photos, heldOut, folder = 'out/demo-model'] = cut < 0 ? given : given.slice(0, cut);
const further = cut < 0 ? [] : given.slice(cut + 1);

for (const [name, path] of [
  ['PHOTOS', photos],
  ['HELD-OUT', heldOut],
]) {
  if (path && statSync(path, { throwIfNoEntry: false })?.isDirectory()) continue;
  console.error(
    `${name} must be a folder of photos${path ? `; there is none at ${path}` : ''}: npx tsx scripts/train-demo.ts PHOTOS HELD-OUT`,
  );
  process.exit(2);
}

let model = `${folder}/init`;
if (!existsSync(`${model}/config.json`))
  run(
    ...['train', 'init', '-o', model, '--config', `${project}demo/config.json`, '--tokenizer', `${project}demo/tokenizer.json`],
    ...['--seed', '1', '--linear', photos!, '--crops', '24'],
  );
for (const part of PARTS) {
  const output = `${folder}/${part}`;
  if (!existsSync(`${output}/model/config.json`)) {
    const resume = existsSync(`${output}/state.safetensors`) ? ['--resume'] : [];
    const settings = ['--config', `${project}demo/training/${part}.json`, '--validation', heldOut!];
    run('train', part, photos!, '-o', output, '--model', model, ...settings, ...resume, ...further);
  }
  model = `${output}/model`;
}
console.log(`The model is in ${model}: npm run -s supir -- restore old.jpg -o new.png --model ${model}`);

/** Runs the program, and ends with its exit code where that is not 0. */
function run(...args: string[]): void {
  console.log(`supir ${args.join(' ')}`);
  const { status } = spawnSync(process.execPath, ['--import', 'tsx', `${project}cli/main.ts`, ...args], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
