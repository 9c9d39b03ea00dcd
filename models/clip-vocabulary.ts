/**
 * The vocabulary that CLIP, and so SDXL, was trained with: 256 bytes, the same at the end of a word, what 48894 merges make of them, and two special
 * tokens. (Radford et al. 2021, sec. 2.4; merges: byte-pair encoding, Sennrich et al. 2016)
 */
import { CLIP_MERGES } from './clip-merges.ts';
import { clipForm } from './tokenizer.ts';

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
  const [start, end] = [tokens.length, tokens.length + 1];
  tokens.push('<|startoftext|>', '<|endoftext|>');
  return clipForm({ vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges, start, end });
}
