/**
 * The vocabulary that CLIP, and so SDXL, was trained with: 256 bytes, the same at the end of a word, what 48894 merges make of them, and two special
 * tokens. (Radford et al. 2021, sec. 2.4; merges: byte-pair encoding, Sennrich et al. 2016)
 */
import { CLIP_MERGES } from './clip-merges.ts';

const WORD_END = '</w>';

/** Tokens 0 to 511: each byte under a visible character of its own, then each as the end of a word. */
export function byteCharacters(): string[] {
  const isVisible = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  const bytes = Array.from({ length: 256 }, (_, byte) => byte);
  const visible = bytes.filter(isVisible).map((byte) => String.fromCharCode(byte));
  const hidden = bytes.filter((byte) => !isVisible(byte)).map((_, i) => String.fromCharCode(256 + i));
  const characters = [...visible, ...hidden];
  return [...characters, ...characters.map((character) => character + WORD_END)];
}

/** The contents of the published tokenizer.json, for ClipTokenizer. */
export async function clipTokenizerJson(): Promise<object> {
  const packed = Uint8Array.from(atob(CLIP_MERGES), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const ids = new Uint16Array(await new Response(stream).arrayBuffer());
  const tokens = byteCharacters();
  const merges: string[] = [];
  for (let i = 0; i < ids.length; i += 2) {
    const [left, right] = [tokens[ids[i]], tokens[ids[i + 1]]];
    merges.push(`${left} ${right}`);
    tokens.push(left + right);
  }
  const special = ['<|startoftext|>', '<|endoftext|>'].map((content, i) => ({ id: tokens.length + i, content }));
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: true, special: true };
  const words = "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((token) => ({ ...token, ...flags })),
    normalizer: {
      type: 'Sequence',
      normalizers: [{ type: 'NFC' }, { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' }, { type: 'Lowercase' }],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: words }, behavior: 'Removed', invert: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: special[1].content,
      continuing_subword_prefix: '',
      end_of_word_suffix: WORD_END,
      fuse_unk: false,
      vocab: Object.fromEntries([...tokens, ...special.map(({ content }) => content)].map((token, id) => [token, id])),
      merges,
    },
  };
}
