/** Codecs that are WebAssembly modules of optional packages, loaded when the first picture needs them. Nothing is downloaded outside browsers. */
import { UserError } from '../core/errors.ts';

/**
 * A codec and its compiled module. An instance keeps the memory that its largest picture took, so it is made again after pictures of this many pixels
 * in all.
 */
export class Codec<Run> {
  private readonly load: () => Promise<{ run: Run; renew: () => Promise<void> }>;
  private loaded: ReturnType<Codec<Run>['load']> | undefined;
  private pixels = 0;

  constructor(load: Codec<Run>['load']) {
    this.load = load;
  }

  /** The codec, for a picture of this many pixels. */
  async for(pixels: number): Promise<Run> {
    this.loaded ??= this.load();
    const { run, renew } = await this.loaded;
    if (this.pixels > RENEWED_AFTER) {
      this.pixels = 0;
      await renew();
    }
    this.pixels += pixels;
    return run;
  }
}

const RENEWED_AFTER = 4e6;

/** Makes an instance of a codec from a file of its package; gives what makes the next one. */
export async function initial(init: (module?: WebAssembly.Module) => Promise<unknown>, path: string): Promise<() => Promise<void>> {
  const module = await installedModule(path);
  const renew = async () => void (await (module ? init(module) : init()));
  await renew();
  return renew;
}

/** What `load` imports. Throws UserError (code `no-package`) where the package is not installed. */
export async function installed<T>(load: () => Promise<T>, format: string, name: string): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    throw new UserError(`${format} files need the package ${name}, which is not installed. Use PNG or JPEG, or install it.`, {
      code: 'no-package',
      values: { name },
      cause,
    });
  }
}

/** A WebAssembly file of a package, compiled; undefined in browsers, where the package finds it itself. */
async function installedModule(path: string): Promise<WebAssembly.Module | undefined> {
  const { currentHost } = await import('../host/current.ts');
  const host = await currentHost();
  if (host.name === 'browser') return undefined;
  const { pathname } = new URL(import.meta.resolve(path));
  // a drive's letter is not behind a slash: /C:/x is C:/x
  return WebAssembly.compile(await host.readFile(decodeURIComponent(pathname).replace(/^\/(?=[A-Z]:)/i, '')));
}
