/** AVIF and HEIC. The files in fixtures/image/heif are of libaom and x265 (`vips heifsave`), of the waves beside fixtures/image/tiff. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { withHeifMetadata } from '../../image/avif-encode.ts';
import { decode } from '../../image/decode.ts';
import { psnr } from '../../image/metrics.ts';
import { orient } from '../../image/orientation.ts';
import { fixture } from '../support/fixtures.ts';
import { refused } from '../support/refused.ts';
import { ascii, exifBlock, joinBytes } from './make-files.ts';

const wave = async (name: string) => decode(await fixture(`image/tiff/${name}.png`), name);
const read = async (name: string) => decode(await fixture(`image/heif/${name}`), name);

test('AVIF of 12 bits keeps more than 8; HEIC is read', async () => {
  const [avif, heic] = [await read('w12.avif'), await read('w8.heic')];
  const [w8, w16] = [await wave('w8'), await wave('w16')];
  assert.equal([avif.width, avif.height, heic.width, heic.height], [46, 35, 46, 35]);
  assert.ok(psnr(avif, w16) > 42, `${psnr(avif, w16)} dB`);
  assert.ok(psnr(heic, w8) > 34, `${psnr(heic, w8)} dB`);
  const mean = avif.deep!.reduce((sum, value, i) => sum + Math.abs(value - w16.deep![i]), 0) / w16.deep!.length;
  assert.ok(mean < 257, `${mean} of 65535`); // nearer than the next of 8 bits
  assert.is(heic.deep, undefined);
});

test('what is put into a container is found in it: EXIF, profile, turns and mirrors', async () => {
  const file = await fixture('image/heif/w12.avif');
  const plain = await decode(file, 'x');
  const exif = exifBlock(6, false); // the container's own turn counts, and not this
  const box = (type: string, value: number) => joinBytes([0, 0, 0, 9], ascii(type), [value]);
  const turned = await decode(withHeifMetadata(file, { exif }, [box('irot', 1), box('imir', 1)]), 'x');
  const expected = orient(orient(plain, 8), 2);
  assert.equal([turned.width, turned.height], [35, 46]);
  assert.equal(turned.data, expected.data);
  assert.equal(turned.deep, expected.deep);
  assert.equal(turned.metadata?.exif, exifBlock(1, false));
});

test('too large, cut off and damaged files are refused before a pixel is decoded', async () => {
  const file = new Uint8Array(await fixture('image/heif/w12.avif'));
  const refuses = (bytes: Uint8Array, says: RegExp) => refused(decode(bytes, 'a.avif'), says);
  const huge = file.slice();
  const at = new TextDecoder('latin1').decode(file).indexOf('ispe');
  new DataView(huge.buffer).setUint32(at + 8, 100_000);
  await refuses(huge, /a\.avif: 100000x35 pixels is too large/);
  for (let length = 16; length < file.length; length += 29) await refuses(file.subarray(0, length), /a\.avif: .*(cut off|damaged)/);
  await refuses(ascii('\0\0\0\x10ftypavif\0\0\0\0'), /cut off or damaged/);
});

test.run();
