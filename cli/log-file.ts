/** A log of JSON lines that several processes may append to: a line is there whole or not at all, and trouble with the log does not end the work. */

import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { sentence } from '../core/text.ts';
import { fileError } from '../host/node-files.ts';

export class LogFile {
  readonly path: string;
  /** Lines that could not be written. */
  lost = 0;
  private readonly onTrouble: (message: string) => void;

  /** Makes the file where there is none; throws UserError where it cannot be written. `onTrouble` is called once, at the first line that is lost. */
  constructor(path: string, onTrouble: (message: string) => void) {
    this.path = path;
    this.onTrouble = onTrouble;
    try {
      closeSync(openSync(path, 'a'));
    } catch (cause) {
      throw fileError('write the log', path, cause);
    }
  }

  /** Appends a line. Never throws. */
  append(value: object): void {
    try {
      appendLine(this.path, JSON.stringify(value));
    } catch (cause) {
      if (this.lost++ === 0)
        this.onTrouble(`${sentence(fileError('write the log', this.path, cause).message)} The work goes on; lines may be missing there.`);
    }
  }
}

/** Appends a line in one piece, and takes back what was written of it should the disk be full. A line that was cut off before it is ended first. */
function appendLine(path: string, line: string): void {
  const file = openSync(path, 'a+');
  try {
    const { size } = fstatSync(file);
    const last = new Uint8Array(1);
    const isCut = size > 0 && readSync(file, last, 0, 1, size - 1) === 1 && last[0] !== 10;
    const bytes = new TextEncoder().encode(`${isCut ? '\n' : ''}${line}\n`);
    let written = 0;
    try {
      while (written < bytes.length) written += writeSync(file, bytes, written);
    } catch (error) {
      // Only one's own end is taken back: others may have written behind it.
      if (written > 0 && fstatSync(file).size === size + written) ftruncateSync(file, size);
      throw error;
    }
  } finally {
    closeSync(file);
  }
}
