/** Sizes and places in pictures, in pixels. */

export interface Size {
  width: number;
  height: number;
}

/** Of a photo, with its name for messages. */
export interface NamedSize extends Size {
  name?: string;
}

/** A part of a picture; (x, y) is its top left pixel. */
export interface Box extends Size {
  x: number;
  y: number;
}

/** What is restored, and the size that its result must have; without one the method's factor decides. */
export interface Framed extends NamedSize {
  result?: Size;
}
