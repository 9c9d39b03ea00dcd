/** Which view is shown; it is the address's fragment, so that back, forward and bookmarks work. */
import { signal } from '@preact/signals';

export const VIEWS = ['restore', 'compare', 'explore', 'adapter'] as const;
export type View = (typeof VIEWS)[number];

function read(): View {
  return VIEWS.find((view) => location.hash === `#${view}`) ?? 'restore';
}

export const view = signal<View>(read());
window.addEventListener('hashchange', () => {
  view.value = read();
});
