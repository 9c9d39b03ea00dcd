/** Light, dark, or as the system is. */
import { effect, signal } from '@preact/signals';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

export const theme = signal<Theme>(stored());

function stored(): Theme {
  try {
    return THEMES.find((each) => each === localStorage.getItem('theme')) ?? 'system';
  } catch {
    return 'system'; // storage is switched off
  }
}

export function applyTheme(): void {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
    try {
      localStorage.setItem('theme', theme.value);
    } catch {}
  });
}
