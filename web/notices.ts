/** What the page has to tell: errors, warnings and news, until they are put away. */
import { signal } from '@preact/signals';
import { words } from './messages.ts';

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

/** Tells what went wrong, unless somebody stopped it. */
export function tellError(error: unknown): void {
  if ((error as Error).name !== 'AbortError') tell('error', words(error as Error));
}
