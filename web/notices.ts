/** What the page has to tell. News and warnings go by themselves once they could be read, errors when they are put away or told again. */
import { signal } from '@preact/signals';
import { shownMessage } from '../core/text.ts';
import { words } from './messages.ts';

export interface Notice {
  id: number;
  kind: 'error' | 'warning' | 'news';
  text: string;
}

export const notices = signal<Notice[]>([]);
/** True while a person points at them: none goes meanwhile. */
export const held = signal(false);
/** Milliseconds that a notice stays, and more for each of its characters; errors stay. */
const STAYS = { news: 5000, warning: 10_000, error: Number.POSITIVE_INFINITY };
const A_CHARACTER = 40;
let made = 0;

/** What a file or its name brings into a message is shown, and cut. */
export function tell(kind: Notice['kind'], message: string): void {
  const text = shownMessage(message);
  const id = ++made;
  notices.value = [...notices.value.filter((notice) => notice.text !== text), { id, kind, text }].slice(-4);
  const stays = STAYS[kind] + A_CHARACTER * text.length;
  if (Number.isFinite(stays)) setTimeout(() => leave(id), stays);
}

function leave(id: number): void {
  if (held.value) setTimeout(() => leave(id), 1000);
  else putAway(id);
}

export function putAway(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

/** Tells what went wrong, unless somebody stopped it. */
export function tellError(error: unknown): void {
  if ((error as Error).name !== 'AbortError') tell('error', words(error as Error));
}
