/**
 * CLIP's tokenizer (Radford et al. 2021, sec. 2.4): lower-cased text, byte-level BPE with an end-of-word mark, framed by a start and an end token
 * and padded to a fixed length. Hugging Face's tokenizers package does the BPE from a `tokenizer.json`; this file does the frame.
 */
import { Tokenizer } from '@huggingface/tokenizers';
import { UserError } from '../core/errors.ts';

export interface PaddingOptions {
  /** Tokens in all, start and end included; at least 2. Default 77. */
  length?: number;
  /** What fills the places after the end token: the end token again (CLIP-L) or 0 (OpenCLIP bigG). */
  pad: 'eot' | 'zero';
}

export class ClipTokenizer {
  /** Id of <|startoftext|>. */
  readonly start: number;
  /** Id of <|endoftext|>. */
  readonly end: number;
  readonly #bpe: Tokenizer;

  /** `json` is a parsed tokenizer.json. @throws UserError if it is not one, or not CLIP's. */
  constructor(json: object) {
    try {
      this.#bpe = new Tokenizer(json, {});
    } catch (cause) {
      throw new UserError(
        `The tokenizer file cannot be used (${cause instanceof Error ? cause.message : cause}). Pass a tokenizer.json of CLIP in Hugging Face's format.`,
        { cause },
      );
    }
    this.start = this.#special('<|startoftext|>');
    this.end = this.#special('<|endoftext|>');
  }

  /** Token ids of a text, without start and end; a length of more than 75 will be cut by `encodePadded`. */
  encode(text: string): number[] {
    return this.#bpe.encode(text, { add_special_tokens: false }).ids;
  }

  /** [start, ...tokens, end, ...padding], exactly `length` ids; a text that is too long loses its last tokens and keeps the end token. */
  encodePadded(text: string, { length = 77, pad }: PaddingOptions): Int32Array {
    if (!Number.isInteger(length) || length < 2)
      throw new UserError(`A padded length of ${length} tokens cannot hold a start and an end token. Use 77.`);
    const ids = new Int32Array(length).fill(pad === 'eot' ? this.end : 0);
    const tokens = this.encode(text).slice(0, length - 2);
    ids[0] = this.start;
    ids.set(tokens, 1);
    ids[tokens.length + 1] = this.end;
    return ids;
  }

  /** The end of a text that `encodePadded` cuts off, from the first word that does not fit or fits in part; empty where all fits. */
  cutOff(text: string, length = 77): string {
    const fits = (part: string) => this.encode(part).length <= length - 2;
    if (fits(text)) return '';
    for (const { index, 0: word } of text.matchAll(/\S+/g)) if (!fits(text.slice(0, index + word.length))) return text.slice(index);
    return '';
  }

  #special(token: string): number {
    const id = this.#bpe.token_to_id(token);
    if (id === undefined)
      throw new UserError(`The tokenizer file has no token ${token}, so it is not CLIP's. Pass a tokenizer.json of CLIP.`);
    return id;
  }
}
