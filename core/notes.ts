/** What a platform keeps for this program from one run to the next: findings that would be made again, never what a person would miss. */

/** Small texts that a platform keeps, by name. */
export interface Notes {
  /** What computes here beside the adapter, with its version. */
  readonly runtime: string;
  /** Null where there is none, or it cannot be read. */
  read(name: string): Promise<string | null>;
  /** What cannot be kept is forgotten, without an error. */
  write(name: string, text: string): Promise<void>;
}

/** Keeps nothing. */
export const NO_NOTES: Notes = { runtime: '', read: async () => null, write: async () => {} };
