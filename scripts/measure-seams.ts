/**
 * Whether tiles can be seen in a restored picture: `npx tsx scripts/measure-seams.ts <picture> <stage-1 picture> [tile] [stride]`, the last two in
 * pixels of the picture (512 and half a tile if left out): `--tile` and `--tile-stride` times the pixels of a latent pixel.
 */
import { readFileSync } from 'node:fs';
import { decode } from '../image/decode.ts';
import { measureSeams, windowBorders } from '../image/seams.ts';
import { tileWindows } from '../sampler/tiles.ts';

const [path, plainPath, tile = '512', stride = String(Number(tile) / 2)] = process.argv.slice(2);
if (plainPath === undefined || !(Number(tile) > 0 && Number(stride) > 0)) {
  console.error('Usage: npx tsx scripts/measure-seams.ts <picture> <stage-1 picture> [tile] [stride]');
  process.exit(2);
}
const read = (file: string) => decode(readFileSync(file), file);
const [image, plain] = [await read(path), await read(plainPath)];
const { columns, rows } = windowBorders(tileWindows(image.height, image.width, Number(tile), Number(stride)), image, 1);
const { borders, border, elsewhere, elsewhere99 } = measureSeams(image, columns, rows, 8, plain);
for (const { across, at, ratio } of borders) console.log(`${across.padEnd(8)} ${String(at).padStart(5)}  ${ratio.toFixed(3)}`);
console.log(`borders of tiles ${border.toFixed(3)}; elsewhere ${elsewhere.toFixed(3)}, 99 of 100 lines up to ${elsewhere99.toFixed(3)}`);
