/** exifr's smallest build, which has no types of its own: JPEG files, TIFF tags. */
declare module 'exifr/dist/mini.esm.mjs' {
  /** The EXIF orientation, 1 to 8, of a JPEG file; undefined without one. Rejects damaged files. */
  export function orientation(data: Uint8Array): Promise<number | undefined>;
}
