/**
 * A prompt as CLIP cleans it before it is split into words: entities of HTML become what they stand for, also those that were escaped twice. The table of
 * entities is loaded when a prompt needs it, for most do not.
 */
export async function cleanedPrompt(text: string): Promise<string> {
  if (!text.includes('&')) return text;
  const { decodeHTML } = await import('entities/decode');
  return decodeHTML(decodeHTML(text));
}
