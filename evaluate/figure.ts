/** Pictures of an evaluation beside each other: a row a photo, a column a method, as in the paper's figures. */
import type { Files } from '../host/host.ts';
import { grid, thumbnail } from '../image/compose.ts';
import { decode } from '../image/decode.ts';
import type { Image } from '../image/image.ts';
import { picturePath, type Row } from './evaluate.ts';

/** The grid of those photos that have all results, each cell at most `cell` pixels wide and high, under the method's name and PSNR. */
export async function figure(files: Files, folder: string, rows: readonly Row[], photos: readonly string[], cell: number): Promise<Image> {
  const methods = [...new Set(rows.map(({ method }) => method))];
  const picture = async (method: string, photo: string) => {
    const path = picturePath(folder, method, photo);
    return thumbnail(await decode(await files.readFile(path), path), cell);
  };
  const cells = [];
  for (const photo of photos) {
    const row = [{ image: await picture('truth', photo), label: photo }];
    for (const method of methods) {
      const found = rows.find((each) => each.method === method && each.photo === photo)!;
      row.push({ image: await picture(method, photo), label: `${method} ${found.psnr.toFixed(2)}` });
    }
    cells.push(row);
  }
  return grid(cells);
}
