#!/usr/bin/env bash
# npm's tiff reads a TIFF whose RGB pixels lie in tiles without an error and gives other pixels: of every pixel it sets the first sample alone, and takes
# it from the tile as if a pixel had one sample. Strips, and tiles of grey pixels, are read rightly.
#
# Seen with npm tiff 7.1.3 on Node 20.20.2: a 16x16 file in one tile, whose pixel x, y is (16 y + x, 100, 200); libvips 8.14.1 gives 1 100 200 for x 1, y 0.
#   the first four pixels should be 0 100 200  1 100 200  2 100 200  3 100 200
#   they are                        0   0   0 100   0   0 200   0   0   1   0   0
#
# Fails if the behaviour changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --no-audit --no-fund --silent tiff@7.1.3
cat > run.mjs <<'JS'
import { decode } from 'tiff';
const side = 16;
const pixels = Buffer.alloc(side * side * 3);
for (let i = 0; i < side * side; i++) pixels.set([i, 100, 200], 3 * i);
// width, height, bits, no compression, RGB, three samples, interleaved, one tile of the whole picture behind the header
const tags = [[256, side], [257, side], [258, null], [259, 1], [262, 2], [277, 3], [284, 1], [322, side], [323, side], [324, 8], [325, pixels.length]];
const list = 8 + pixels.length;
const file = Buffer.alloc(list + 2 + 12 * tags.length + 4 + 6);
file.write('II*\0', 0, 'latin1');
file.writeUInt32LE(list, 4);
pixels.copy(file, 8);
file.writeUInt16LE(tags.length, list);
for (const [i, [tag, value]] of tags.entries()) {
  const entry = list + 2 + 12 * i;
  file.writeUInt16LE(tag, entry);
  file.writeUInt16LE(value === null ? 3 : 4, entry + 2);
  file.writeUInt32LE(value === null ? 3 : 1, entry + 4);
  file.writeUInt32LE(value ?? file.length - 6, entry + 8);
}
for (let k = 0; k < 3; k++) file.writeUInt16LE(8, file.length - 6 + 2 * k);
const [page] = decode(file);
console.log([...page.data.slice(0, 12)].join(' '));
JS
seen=$(node run.mjs)
echo "$seen"
[ "$seen" = '0 0 0 100 0 0 200 0 0 1 0 0' ] || { echo 'changed'; exit 1; }
