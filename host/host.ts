/**
 * What the program needs from the platform it runs on, and nothing more: WebGPU's entry point, a way to wait for it, and files.
 * One implementation a platform: node.ts (Node and Bun), deno.ts, browser.ts; current.ts picks the one that is running.
 */
// All entries of the package reach this file, so that whoever uses them has the types of WebGPU, wherever their TypeScript has them.
export type {} from 'supir-webgpu/webgpu-types';

import type { Machine } from '../core/adapter.ts';
import type { DebugOptions } from '../core/debug.ts';
import type { Notes } from '../core/notes.ts';
import type { MatrixChoice } from '../gpu/matrix-choice.ts';
import type { MatrixAdapter } from '../gpu/matrix-units.ts';
import type { Screen } from '../gpu/pace.ts';
import type { ByteSource } from '../weights/byte-source.ts';

export interface Host extends Files {
  readonly name: 'node' | 'bun' | 'deno' | 'browser';
  /** WebGPU's entry point. Throws DeviceError where the platform has none; an adapter may still be missing behind it. */
  gpu(): Promise<GPU>;
  /** What devices are to print of the programs that they compile, where a person asked for it. Throws UserError for what there is not. */
  debug?(): DebugOptions | null;
  /** Bytes of memory that are free on the machine; null where the platform does not tell. */
  freeMemory(): number | null;
  /** The machine that it runs on, as far as the platform tells. */
  machine(): Machine;
  /** The screen that this program may be seen on, where that can be told. For openDevice. */
  readonly screen?: Screen;
  /** What is kept from one run of the program to the next. */
  readonly notes: Notes;
  /** Which matrix unit an adapter's devices use: what was found out apart from this program, and is remembered. For openDevice. */
  chooseMatrixUnit?(adapter: MatrixAdapter): Promise<MatrixChoice>;
  /** A file of an npm package that is installed only where somebody wants it; absent where there are none. Throws UserError where it is not. */
  packageFile?(name: string, path: string): Promise<Uint8Array>;
  /** Waits for a GPU promise without burning the processor meanwhile. Passes the value or the rejection on. */
  settle<T>(promise: Promise<T>): Promise<T>;
}

/** Files by path; in browsers, those of the origin's private file system. A missing or unreadable file throws UserError naming the path. */
export interface Files {
  /** Opens a file for reading ranges of bytes. */
  fileSource(path: string): Promise<ByteSource>;
  /** A whole file. */
  readFile(path: string): Promise<Uint8Array<ArrayBuffer>>;
  /** Writes a file, and its folders, so that readers see the old bytes or all of the new ones: a failed or interrupted write leaves no trace. */
  writeFileAtomic(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Names of the files in a folder, sorted; folders are left out. */
  list(folder: string): Promise<string[]>;
  /** Whether there is a file or folder of that name. */
  exists(path: string): Promise<boolean>;
  /** Removes a file; nothing happens where there is none. */
  remove(path: string): Promise<void>;
}
