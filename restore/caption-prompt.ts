/**
 * A caption as the beginning of a prompt. SUPIR puts its quality words right behind what was typed, without a blank, and so do we for a typed prompt; a
 * caption from a file or a server does not know of them and is separated.
 */
export function captionPrompt(caption: string): string {
  const text = caption.trim();
  if (text === '') return '';
  return /[.,;:!?]$/.test(text) ? `${text} ` : `${text}. `;
}
