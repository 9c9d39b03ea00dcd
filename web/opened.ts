/**
 * Addresses that the page may connect to beside its own: those that a person opened, for weights or captions. The page's policy is fixed when it loads
 * (web/policy.ts), so opening one loads the page again.
 */
import { store } from './local.ts';

/** Set by web/policy.ts, before anything else runs. */
declare global {
  interface Window {
    opened?: readonly string[];
  }
}

/** The origin of a web address; null for what is none. */
export function originOf(address: string): string | null {
  try {
    const { protocol, origin } = new URL(address.trim());
    return protocol === 'http:' || protocol === 'https:' ? origin : null;
  } catch {
    return null;
  }
}

export function isOpened(origin: string): boolean {
  return origin === location.origin || (window.opened ?? []).includes(origin);
}

/** Allows an address from the next loading on, and loads. */
export function openOrigin(origin: string): void {
  store('opened', JSON.stringify([...new Set([...(window.opened ?? []), origin])]));
  location.reload();
}
