/** What the page has to tell: errors, warnings and news, until they are put away. */
import { signal } from '@preact/signals';

export interface Notice {
  id: number;
  kind: 'error' | 'warning' | 'news';
  text: string;
}

export const notices = signal<Notice[]>([]);
let made = 0;

export function tell(kind: Notice['kind'], text: string): void {
  notices.value = [...notices.value.filter((notice) => notice.text !== text), { id: ++made, kind, text }].slice(-4);
}

export function putAway(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

/** Tells what went wrong, unless somebody stopped it. The command line's advice is the page's own. */
export function tellError(error: unknown): void {
  const { name, message } = error as Error;
  if (name !== 'AbortError') tell('error', forPage(message));
}

/** A message of the library, without what only helps at a command line. */
export function forPage(message: string): string {
  return message
    .replace(/ ?Run `npm run[^`]*`[^.]*\./g, ' The Adapter page says what can be done.')
    .replaceAll(/ with --(model|lora)\b/g, '');
}
