/** What `supir restore` refuses: exit code 2, one paragraph that says what is wrong, and no output file. */
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { encodePng } from '../../image/encode.ts';
import { createImage } from '../../image/image.ts';
import { bytesSource } from '../../weights/byte-source.ts';
import type { StoredDType } from '../../weights/dtype.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { encodeSafetensors } from '../../weights/safetensors-writer.ts';
import { makePng } from '../image/make-files.ts';
import { assertRefused, supir } from './run-cli.ts';

const demo = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'demo');

const test = suite('refusals', { folder: '', photo: '' });

test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-refusals-'));
  context.photo = join(context.folder, 'photo.png');
  writeFileSync(context.photo, encodePng({ ...createImage(64, 64), data: new Uint8Array(64 * 64 * 3).map((_, i) => i & 255) }));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

test('photos that cannot be read', async ({ folder, photo }) => {
  const png = readFileSync(photo);
  const header = makePng({ width: 50_000, height: 50_000, depth: 8, color: 2, rows: [] }).subarray(0, 60);
  const cases: [name: string, bytes: Uint8Array | null, message: RegExp][] = [
    ['missing.png', null, /Cannot read .*missing\.png: it does not exist/],
    ['text.png', new TextEncoder().encode('This is no picture.'), /text\.png: this is not an image file/],
    ['cut.png', png.subarray(0, png.length / 2), /cut\.png: .*(damaged|cut off)/],
    ['empty.png', new Uint8Array(), /empty\.png: the file is empty/],
    ['huge.png', header, /huge\.png: 50000x50000 pixels is too large/],
    ['web.webp', new TextEncoder().encode('RIFF\0\0\0\0WEBPVP8 '), /web\.webp: the WebP file is cut off/],
    ['moving.gif', new TextEncoder().encode('GIF89a'), /moving\.gif: GIF files are not read; convert/],
    ['', null, /names one file, and .* may be several photos/],
  ];
  for (const [name, bytes] of cases) if (bytes) writeFileSync(join(folder, name), bytes);
  const before = readdirSync(folder).sort();
  for (const [name, , message] of cases) {
    assertRefused(await supir(['restore', join(folder, name), '-o', join(folder, 'out.png')]), message, name || 'a folder');
  }
  assert.equal(readdirSync(folder).sort(), before);
});

test('options that cannot be', async ({ folder, photo }) => {
  const cases: [args: string[], message: RegExp][] = [
    [['--steps', 'NaN'], /'--steps <n>' argument 'NaN' is invalid\. It must be an integer from 1 to 1000/],
    [['--steps', '-3'], /'--steps <n>' argument '-3' is invalid\. It must be an integer from 1 to 1000/],
    [['--steps', '2.5'], /argument '2\.5' is invalid\. It must be an integer/],
    [['--cfg', 'Infinity'], /'--cfg <scale>' argument 'Infinity' is invalid\. It must be a number from 0 to 100/],
    [['--seed', '-1'], /'--seed <n>' argument '-1' is invalid/],
    [['--upscale', '0'], /--upscale is 0; it must be a number from 0\.125 to 16/],
    [['--min-size', ''], /'--min-size <pixels>' argument '' is invalid/],
    [['--color-fix', 'sepia'], /'--color-fix <how>' argument 'sepia' is invalid\. Allowed choices are wavelet, adain, lab, none/],
    [['--s-churn', '1', '--churn', '2'], /--s-churn is given under two of its names: give one/],
    [['--preset', 'best'], /no preset 'best' for the model supir-demo-2; there are: .*`[^`]* restore --model <folder> --help`/],
    [['--no-such-option'], /unknown option '--no-such-option'/],
    [['--bits', '12'], /'--bits <8\|16>' argument '12' is invalid\. It must be 8 or 16/],
    [['--bits', '16', '-o', 'out.jpg'], /Cannot write out\.jpg with 16 bits: only PNG, TIFF and AVIF files have them/],
    [['--lora', 'faces.safetensors:0.5;1'], /'--lora <file:scale>' argument .* is invalid\. '0\.5;1' is no LoRA scale\. Examples/],
    [['--lora', 'no-such.safetensors:0.2..1'], /Cannot open no-such\.safetensors: it does not exist/],
    [['second-photo.png'], /names one file, and .* may be several photos/],
  ];
  for (const [args, message] of cases) {
    assertRefused(await supir(['restore', photo, '-o', join(folder, 'out.png'), ...args]), message, args.join(' '));
  }
  assertRefused(await supir(['restore', photo]), /required option '-o, --output <path>' not specified/, 'no output');
  assert.equal(readdirSync(folder), ['photo.png']);
});

test('a LoRA of another architecture', async ({ folder, photo }) => {
  const path = join(folder, 'flux.safetensors');
  const data = Float32Array.of(1);
  const key = 'lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight';
  writeFileSync(path, encodeSafetensors([[key, { dtype: 'F32', shape: [1, 1], data }]]));
  const message = new RegExp(`flux\\.safetensors: 1 of 1 tensors belong to no layer of this model: ${key}.*another architecture`);
  assertRefused(await supir(['restore', photo, '-o', join(folder, 'out.png'), '--lora', path]), message, 'flux');
  assert.equal(readdirSync(folder).sort(), ['flux.safetensors', 'photo.png']);
});

test('places that cannot be written to, before any work', async ({ folder, photo }) => {
  mkdirSync(join(folder, 'taken.png'));
  const cases: [args: string[], message: RegExp][] = [
    [['-o', join(folder, 'out.heic')], /Cannot write .*out\.heic: the name must end in \.png, \.jpg, \.webp, \.tif or \.avif/],
    [
      ['-o', join(folder, 'out')],
      /Cannot write .*out: the name must end in \.png, \.jpg, \.webp, \.tif or \.avif, or with \/ for a folder/,
    ],
    [['-o', photo], /Cannot write .*photo\.png: it is the photo itself/],
    [['-o', join(folder, 'taken.png')], /Cannot write .*taken\.png: it is a folder/],
    [['-o', join(photo, 'out.png')], /Cannot write .*out\.png: .*photo\.png is a file, not a folder/],
    [['-o', join(folder, 'a.png'), '--stage1', join(folder, 'a.png')], /Two files would be written to .*a\.png/],
    [['-o', join(folder, 'a.png'), '--stage1', join(folder, 'a.gif')], /Cannot write .*a\.gif/],
  ];
  if (process.platform === 'linux') cases.push([['-o', '/proc/out.png', '--stage1-only', '--quiet'], /^Cannot write \/proc\/out\.png: /]); // seen only when written
  for (const [args, message] of cases) {
    assertRefused(await supir(['restore', photo, ...args]), message, args.join(' '));
  }
  assert.equal(readdirSync(folder).sort(), ['photo.png', 'taken.png']);
});

test('model folders that are not whole', async ({ folder, photo }) => {
  const config = JSON.parse(readFileSync(join(demo, 'config.json'), 'utf8'));
  const weight = 'model.diffusion_model.middle_block.0.in_layers.2.weight';
  const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const sdxl = readFileSync(join(demo, 'sdxl.safetensors'));
  const altered = (change: Change) => alterTensor(sdxl, weight, change);
  const infinite = (bytes: Uint8Array) => bytes.map((byte, i) => (i === 20 ? 0 : i === 21 ? 0x7e : byte)); // element 10, an f16 NaN
  const cases: [name: string, file: string, bytes: Uint8Array | null, message: RegExp][] = [
    ['no config', 'config.json', null, /has no config\.json, so the published model's sizes are expected/],
    ['broken config', 'config.json', new TextEncoder().encode('{"name": "x",'), /config\.json is not JSON/],
    ['config of nothing', 'config.json', json({}), /config\.json: 'vae' must be an object\. See demo\/config\.json/],
    ['config without files', 'config.json', json({ ...config, files: {} }), /config\.json: 'files\.sdxl' is undefined, which is no text/],
    ['no tokenizer', 'tokenizer.json', null, /Cannot open .*tokenizer\.json: it does not exist/],
    ['broken tokenizer', 'tokenizer.json', json({}), /tokenizer\.json/],
    ['no weights', 'sdxl.safetensors', null, /Cannot open .*sdxl\.safetensors: it does not exist/],
    ['empty weights', 'sdxl.safetensors', new Uint8Array(), /sdxl\.safetensors/],
    ['cut weights', 'sdxl.safetensors', sdxl.subarray(0, sdxl.length / 2), /sdxl\.safetensors.*(cut|short|incomplete|end)/],
    ['weights of nothing', 'sdxl.safetensors', sdxl.map((_, i) => i), /sdxl\.safetensors/],
    [
      'a tensor missing',
      'sdxl.safetensors',
      await altered(() => null),
      new RegExp(`1 tensor missing that the SDXL file should hold: ${weight}`),
    ],
    [
      'a wrong shape',
      'sdxl.safetensors',
      await altered((tensor) => ({ ...tensor, shape: [...tensor.shape].reverse() })),
      /1 tensor of another shape.*middle_block\.0\.in_layers\.2\.weight is \[3,3,64,64\] in sdxl\.safetensors and \[64,64,3,3\] in the model/,
    ],
    [
      'a weight that is not a number',
      'sdxl.safetensors',
      await altered((tensor) => ({ ...tensor, data: infinite(tensor.data) })),
      /sdxl\.safetensors: element 10 of tensor "model.diffusion_model.middle_block.0.in_layers.2.weight" is not a number/,
    ],
  ];
  for (const [name, file, bytes, message] of cases) {
    const model = join(folder, name);
    mkdirSync(model);
    for (const each of ['config.json', 'tokenizer.json', 'sdxl.safetensors', 'supir.safetensors']) {
      if (each !== file) link(join(demo, each), join(model, each));
      else if (bytes) writeFileSync(join(model, each), bytes);
    }
    const output = join(folder, `${name}.png`);
    assertRefused(await supir(['restore', photo, '-o', output, '--model', model, '--steps', '1', '--quiet']), message, name);
  }
  assertRefused(
    await supir(['restore', photo, '-o', join(folder, 'out.png'), '--model', join(folder, 'nowhere')]),
    /Cannot list .*nowhere: it does not exist/,
    'no folder',
  );
  assert.equal(
    readdirSync(folder).filter((name) => name.endsWith('.png')),
    ['photo.png'],
  );
});

function link(from: string, to: string): void {
  try {
    symlinkSync(from, to);
  } catch {
    copyFileSync(from, to); // Windows asks for a privilege
  }
}

interface StoredTensor {
  dtype: StoredDType;
  shape: readonly number[];
  data: Uint8Array;
}
/** A tensor in place of another, or null for none. */
type Change = (tensor: StoredTensor) => StoredTensor | null;

/** A safetensors file with one tensor changed. */
async function alterTensor(bytes: Uint8Array, name: string, change: Change): Promise<Uint8Array> {
  const file = await openSafetensors(bytesSource('original', bytes));
  const tensors: [string, StoredTensor][] = [];
  for (const each of file.names()) {
    const { dtype, shape } = file.info(each);
    const tensor = { dtype, shape, data: await file.bytes(each) };
    const kept = each === name ? change(tensor) : tensor;
    if (kept) tensors.push([each, kept]);
  }
  return encodeSafetensors(tensors);
}

test.run();
