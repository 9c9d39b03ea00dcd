/**
 * CLIP's tokenizer (Radford et al. 2021, sec. 2.4): lower-cased text, byte-level BPE with an end-of-word mark, framed by a start and an end token
 * and padded to a fixed length. Hugging Face's tokenizers package does the BPE from a `tokenizer.json`; this file does the frame.
 */
import { Tokenizer } from '@huggingface/tokenizers';
import { UserError } from '../core/errors.ts';
import { isRecord } from '../core/json.ts';
import { shown } from '../core/text.ts';

export interface PaddingOptions {
  /** Tokens in all, start and end included; at least 2. Default 77. */
  length?: number;
  /** What fills the places after the end token: the end token again (CLIP-L) or 0 (OpenCLIP bigG). */
  pad: 'eot' | 'zero';
}

const [START, END] = ['<|startoftext|>', '<|endoftext|>'];

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

/** Bytes and values of the largest tokenizer.json accepted: CLIP's has 2.2 MB, and two values for each of its 49,408 tokens. */
export const TOKENIZER_LIMITS = { bytes: 2 ** 24, values: 1_000_000 };
/** Most tokens of a vocabulary, and characters of one: CLIP has 49408. */
const [MOST_TOKENS, TOKEN_LENGTH] = [2 ** 18, 1000];
/** Characters of a word that are looked at. What is longer is no word, and its beginning fills every context. */
const WORD_LENGTH = 4096;

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
  const taken = new Uint8Array(tokens.length);
  for (const [token, id] of tokens) {
    if (token.length > TOKEN_LENGTH) refuse(`it has a token of ${token.length} characters`);
    const isId = Number.isInteger(id) && (id as number) >= 0 && (id as number) < tokens.length && !taken[id as number];
    if (!isId)
      refuse(`the number of its token ${shown(token)} is ${shown(id)}, which is no whole number from 0 to ${tokens.length - 1}, each once`);
    taken[id as number] = 1;
  }
  if (!Array.isArray(model.merges) || model.merges.length > tokens.length)
    refuse("its 'model.merges' are no list of at most as many as tokens");
  const merges = (model.merges as unknown[]).map((merge) => {
    const text = Array.isArray(merge) && merge.length === 2 ? merge.join(' ') : merge;
    const [left, right] =
      typeof text === 'string' && /^[^ ]+ [^ ]+$/.test(text) ? text.split(' ') : refuse(`its merge ${shown(merge)} is no pair of tokens`);
    const isKnown = [left, right, left + right].every((token) => Object.hasOwn(vocab, token));
    return isKnown ? (text as string) : refuse(`its merge ${shown(merge)} is no pair of tokens that make a third`);
  });
  const foreign = foreignStep([root.normalizer, root.pre_tokenizer]);
  if (foreign !== null) refuse(`it ${foreign}`);
  if (!isClipsDivision(root.normalizer, root.pre_tokenizer)) refuse('it divides texts in another way than CLIP');
  const special = (token: string): number => {
    if (!Object.hasOwn(vocab, token))
      throw new UserError(`The tokenizer file has no token ${token}, so it is not CLIP's. Pass a tokenizer.json of CLIP.`);
    return vocab[token] as number;
  };
  const [start, end] = [special(START), special(END)];
  if (!Array.isArray(root.added_tokens)) refuse("its 'added_tokens' are no list");
  for (const token of root.added_tokens as unknown[]) {
    const { content, id } = isRecord(token) ? token : {};
    if (content !== START && content !== END) refuse(`it adds the token ${shown(content ?? token)}, which CLIP does not`);
    if (id !== vocab[content as string])
      refuse(`the number of ${content} is ${shown(id)}, and in its vocabulary ${vocab[content as string]}`);
  }
  return { vocab: vocab as Record<string, number>, merges, start, end };
}

/** Whether texts are divided as CLIP divides them, step by step. */
function isClipsDivision(normalizer: unknown, pre: unknown): boolean {
  const steps = (value: unknown, key: string) =>
    isRecord(value) && value.type === 'Sequence' && Array.isArray(value[key]) ? (value[key] as Record<string, unknown>[]) : [];
  const all = [...steps(normalizer, 'normalizers'), ...steps(pre, 'pretokenizers')];
  if (String(all.map((step) => step.type)) !== 'NFC,Replace,Lowercase,Split,ByteLevel') return false;
  const [, replace, , split, bytes] = all;
  const pattern = (step: Record<string, unknown>) => (isRecord(step.pattern) ? step.pattern.Regex : undefined);
  const replaces = pattern(replace) === '\\s+' && replace.content === ' ';
  return replaces && pattern(split) !== '\\s+' && split.behavior === 'Removed' && split.invert === true && bytes.add_prefix_space === false;
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

  /** Token ids of a text, without start and end; with `most`, at most so many, and no more of the text is looked at than they need. */
  encode(text: string, most = Number.POSITIVE_INFINITY): number[] {
    const ids: number[] = [];
    for (const { tokens } of this.#words(text)) {
      for (const id of tokens) {
        if (ids.length === most) return ids;
        ids.push(id);
      }
      if (ids.length === most) return ids;
    }
    return ids;
  }

  /** [start, ...tokens, end, ...padding], exactly `length` ids; a text that is too long loses its last tokens and keeps the end token. */
  encodePadded(text: string, { length = 77, pad }: PaddingOptions): Int32Array {
    if (!Number.isInteger(length) || length < 2)
      throw new UserError(`A padded length of ${length} tokens cannot hold a start and an end token. Use 77.`);
    const ids = new Int32Array(length).fill(pad === 'eot' ? this.end : 0);
    const tokens = this.encode(text, length - 2);
    ids[0] = this.start;
    ids.set(tokens, 1);
    ids[tokens.length + 1] = this.end;
    return ids;
  }

  /** The end of a text that `encodePadded` cuts off, from the first word that does not fit or fits in part; empty where all fits. */
  cutOff(text: string, length = 77): string {
    let count = 0;
    for (const { index, tokens } of this.#words(text)) if ((count += tokens.length) > length - 2) return text.slice(index);
    return '';
  }

  /** The words of a text and their tokens. White space parts words, whatever the pattern, so that each can be encoded by itself. */
  *#words(text: string): Generator<{ index: number; tokens: number[] }> {
    for (const { index, 0: word } of text.matchAll(/\P{White_Space}+/gu))
      yield { index, tokens: this.#bpe.encode(word.slice(0, WORD_LENGTH), { add_special_tokens: false }).ids };
  }
}
