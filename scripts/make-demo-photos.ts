/** Makes the damaged photos of the demo from the originals: `npx tsx scripts/make-demo-photos.ts`. The same bytes every time. */
import { readFileSync, writeFileSync } from 'node:fs';
import { decode } from '../image/decode.ts';
import { degrade } from '../image/degrade.ts';
import { encodeJpeg } from '../image/encode.ts';
import { DEGRADATIONS, DEMO_PHOTOS, type DemoPhoto, damagedPath, originalPath } from './demo-photos.ts';

/** Bytes of the damaged photo's JPEG file. */
export async function damagedFile(photo: DemoPhoto): Promise<Uint8Array> {
  const path = originalPath(photo);
  const { jpeg, ...before } = DEGRADATIONS[photo.damage];
  return encodeJpeg(degrade(await decode(readFileSync(path), path), before), jpeg);
}

if (process.argv[1] === import.meta.filename) {
  for (const photo of DEMO_PHOTOS) {
    const bytes = await damagedFile(photo);
    writeFileSync(damagedPath(photo), bytes);
    console.log(`${damagedPath(photo)}: ${bytes.length} bytes`);
  }
}
