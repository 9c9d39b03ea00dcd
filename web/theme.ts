/** Light, dark, or as the system is. */
import { effect, signal } from '@preact/signals';
import { store, stored } from './local.ts';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

export const theme = signal<Theme>(THEMES.find((each) => each === stored('theme')) ?? 'system');

export function applyTheme(): void {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
    store('theme', theme.value);
  });
}
