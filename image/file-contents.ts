/** What a reader finds in an image file. */
import type { Image } from './image.ts';
import type { StoredMetadata } from './metadata.ts';

export interface FileContents extends StoredMetadata {
  /** as stored, without metadata */
  image: Image;
  /** What was read in spite of a fault, or could not be kept: sentences for a person, to stand behind the file's name. */
  notes: string[];
}
