/**
 * CLIP's tokenizer (Radford et al. 2021, sec. 2.4): lower-cased text, byte-level BPE with an end-of-word mark, framed by a start and an end token
 * and padded to a fixed length. Hugging Face's tokenizers package does the BPE from a `tokenizer.json`; this file does the frame.
 */
import { Tokenizer } from '@huggingface/tokenizers';
import { decodeHTML } from 'entities';
import { UserError } from '../core/errors.ts';
import { isRecord } from '../core/json.ts';
import { shown } from '../core/text.ts';

export interface PaddingOptions {
  /** Tokens in all, start and end included; at least 2. Default 77. */
  length?: number;
  /** What fills the places after the end token: the end token again (CLIP-L) or 0 (OpenCLIP bigG). */
  pad: 'eot' | 'zero';
}

/** How CLIP splits a text into words, as its own file and that of Hugging Face have it. */
const WORDS = "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";
const WORDS_AND_MARKS = `<\\|startoftext\\|>|<\\|endoftext\\|>|${WORDS}`;

/** What a tokenizer.json of CLIP holds beside its own: everything that differs between models. */
export interface ClipTokens {
  /** Token -> id. */
  vocab: Record<string, number>;
  /** Pairs of tokens with a blank between, the most frequent first. */
  merges: readonly string[];
  /** Ids of <|startoftext|> and <|endoftext|>. */
  start: number;
  end: number;
}

/** A tokenizer.json of CLIP. */
export function clipForm({ vocab, merges, start, end }: ClipTokens): object {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: true, special: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      { id: start, content: '<|startoftext|>', ...flags },
      { id: end, content: '<|endoftext|>', ...flags },
    ],
    normalizer: {
      type: 'Sequence',
      normalizers: [{ type: 'NFC' }, { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' }, { type: 'Lowercase' }],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: WORDS_AND_MARKS }, behavior: 'Removed', invert: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<|endoftext|>',
      continuing_subword_prefix: '',
      end_of_word_suffix: '</w>',
      fuse_unk: false,
      vocab,
      merges,
    },
  };
}

/** Most tokens of a vocabulary: CLIP has 49408. */
const MOST_TOKENS = 2 ** 20;

/**
 * What of a tokenizer.json is its own. Its patterns are compared with CLIP's and never run. Throws UserError naming the first entry that is not as in a
 * tokenizer.json of CLIP.
 */
export function clipTokensOf(json: unknown): ClipTokens {
  const refuse = (what: string): never => {
    throw new UserError(`The tokenizer file cannot be used: ${what}. Pass a tokenizer.json of CLIP in Hugging Face's format.`, {
      code: 'bad-tokenizer',
    });
  };
  const section = (value: unknown, name: string) => (isRecord(value) ? value : refuse(`its '${name}' is ${shown(value)} and no object`));
  const root = section(json, 'content');
  const model = section(root.model, 'model');
  if (model.type !== 'BPE') refuse(`its kind is ${shown(model.type)}, not BPE`);
  const vocab = section(model.vocab, 'model.vocab');
  const tokens = Object.entries(vocab);
  if (tokens.length > MOST_TOKENS) refuse(`it has ${tokens.length} tokens`);
  const isId = (id: unknown): id is number => Number.isInteger(id) && (id as number) >= 0 && (id as number) < MOST_TOKENS;
  const wrong = tokens.find(([, id]) => !isId(id));
  if (wrong) refuse(`the number of its token ${shown(wrong[0])} is ${shown(wrong[1])}, which is no whole number from 0`);
  if (!Array.isArray(model.merges) || model.merges.length > MOST_TOKENS) refuse("its 'model.merges' are no list");
  const merges = (model.merges as unknown[]).map((merge) => {
    const text = Array.isArray(merge) ? merge.join(' ') : merge;
    return typeof text === 'string' && /^[^ ]+ [^ ]+$/.test(text) ? text : refuse(`its merge ${shown(merge)} is no pair of tokens`);
  });
  const foreign = foreignStep([root.normalizer, root.pre_tokenizer]);
  if (foreign !== null) refuse(`it ${foreign}`);
  const special = (token: string): number => {
    const added = Array.isArray(root.added_tokens) ? root.added_tokens.find((each) => isRecord(each) && each.content === token) : undefined;
    const id = (added as { id?: unknown } | undefined)?.id ?? vocab[token];
    if (id === undefined)
      throw new UserError(`The tokenizer file has no token ${token}, so it is not CLIP's. Pass a tokenizer.json of CLIP.`);
    return isId(id) ? id : refuse(`the number of ${token} is ${shown(id)}, which is no whole number from 0`);
  };
  return { vocab: vocab as Record<string, number>, merges, start: special('<|startoftext|>'), end: special('<|endoftext|>') };
}

/** Steps that a tokenizer of CLIP takes with a text before it is split into tokens, and the patterns in them. */
const STEPS: readonly unknown[] = ['Sequence', 'NFC', 'Replace', 'Lowercase', 'Split', 'ByteLevel'];
const PATTERNS: readonly unknown[] = ['\\s+', WORDS, WORDS_AND_MARKS];

/** What is foreign among the steps, as the end of "it ..."; null where there is nothing. */
function foreignStep(steps: readonly unknown[]): string | null {
  for (const step of steps) {
    if (step === null || step === undefined) continue;
    if (!isRecord(step) || !STEPS.includes(step.type)) return `treats texts by ${shown(step)}, which CLIP does not`;
    const { pattern } = step;
    if (pattern !== undefined && !(isRecord(pattern) && PATTERNS.includes(pattern.Regex)))
      return `splits or replaces by the pattern ${shown(pattern)}, which is not CLIP's`;
    const inner = step.normalizers ?? step.pretokenizers ?? [];
    if (!Array.isArray(inner) || inner.length > 8 || inner.some((each) => isRecord(each) && each.type === 'Sequence'))
      return `treats texts by ${shown(step)}, which CLIP does not`;
    const found = foreignStep(inner);
    if (found !== null) return found;
  }
  return null;
}

export class ClipTokenizer {
  /** Id of <|startoftext|>. */
  readonly start: number;
  /** Id of <|endoftext|>. */
  readonly end: number;
  /** The highest id: embedding tables need a row more. */
  readonly highest: number;
  readonly #bpe: Tokenizer;

  /** `json` is a parsed tokenizer.json. @throws UserError if it is not one, or not CLIP's. */
  constructor(json: unknown) {
    const tokens = clipTokensOf(json);
    this.start = tokens.start;
    this.end = tokens.end;
    this.highest = Object.values(tokens.vocab).reduce((highest, id) => Math.max(highest, id), Math.max(tokens.start, tokens.end));
    this.#bpe = new Tokenizer(clipForm(tokens), {});
  }

  /** Token ids of a text, without start and end; a length of more than 75 will be cut by `encodePadded`. */
  encode(text: string): number[] {
    return this.#bpe.encode(cleaned(text), { add_special_tokens: false }).ids;
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
}

/** As CLIP cleans a text first: entities of HTML become what they stand for, also those that were escaped twice. */
const cleaned = (text: string): string => (text.includes('&') ? decodeHTML(decodeHTML(text)) : text);
