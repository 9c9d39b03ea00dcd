/** Captions of a run that is not finished, beside its state: who goes on with it asks nobody again. */
import { isRecord } from '../core/json.ts';
import type { Files } from '../host/host.ts';
import type { Image } from '../image/image.ts';
import { sha256 } from './recipe.ts';

export interface Captions {
  prompt?: string;
  tilePrompts?: string[];
}

export class KeptCaptions {
  private readonly files: Files;
  private readonly folder: string;
  private readonly of: Promise<string>;

  /** Of a photo in a folder of states; `how`: what else other captions would have. */
  constructor(files: Files, folder: string, { width, height, data }: Image, how: readonly unknown[]) {
    [this.files, this.folder] = [files, folder];
    this.of = sha256(data).then((photo) => sha256(new TextEncoder().encode(JSON.stringify([photo, width, height, how]))));
  }

  async path(): Promise<string> {
    return `${this.folder}/${(await this.of).slice(0, 16)}.caption.json`;
  }

  /** What was kept; null where that is nothing, or damaged: then it is asked for again. */
  async read(): Promise<Captions | null> {
    const path = await this.path();
    if (!(await this.files.exists(path))) return null;
    try {
      const kept: unknown = JSON.parse(new TextDecoder().decode(await this.files.readFile(path)));
      if (!isRecord(kept) || typeof kept.prompt !== 'string') return null;
      const { prompt, tilePrompts } = kept;
      const areTexts = Array.isArray(tilePrompts) && tilePrompts.every((each) => typeof each === 'string');
      return { prompt, ...(areTexts ? { tilePrompts: tilePrompts as string[] } : {}) };
    } catch {
      return null;
    }
  }

  async write(captions: Captions): Promise<void> {
    await this.files.writeFileAtomic(await this.path(), new TextEncoder().encode(JSON.stringify(captions)));
  }
}
