/** Where this machine gets Debian's packages from: apt's sources in both of their forms (sources.list(5)). */
import { readdirSync, readFileSync } from 'node:fs';

/** Debian's own keys, as every Debian has them. */
export const DEBIAN_KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Hosts that are Debian's own, such as deb.debian.org and ftp.de.debian.org: new systems often name one alone, without keys and updates. */
const DEBIAN_HOST = /^https?:\/\/(?:[\w-]+\.)*debian\.org\//;

export interface AptSource {
  address: string;
  suite: string;
  /** The file of keys that it is checked with; empty where none is named. */
  keys: string;
}

/** All sources in force. Nothing where there is no apt. */
export function aptSources(folder = '/etc/apt'): AptSource[] {
  const read = (path: string): string => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return '';
    }
  };
  let names: string[] = [];
  try {
    names = readdirSync(`${folder}/sources.list.d`).sort();
  } catch {}
  const parts = names.map((name) => [name, read(`${folder}/sources.list.d/${name}`)] as const);
  return [['sources.list', read(`${folder}/sources.list`)] as const, ...parts].flatMap(([name, text]) => {
    if (name.endsWith('.sources')) return paragraphs(text);
    return name.endsWith('.list') ? lines(text) : [];
  });
}

/** `deb [options] address suite components`, one a line. */
function lines(text: string): AptSource[] {
  return text.split('\n').flatMap((line) => {
    const [, options = '', address, suite] =
      /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)(?:\s+\S+)*\s*$/.exec(line.replace(/#.*/, '')) ?? [];
    return [{ address, suite, keys: /(?:^|\s)signed-by=(\S+)/i.exec(options)?.[1] ?? '' }];
  });
}

/** Fields of a paragraph each, `Types`, `URIs` and so on. */
function paragraphs(text: string): AptSource[] {
  const withoutComments = text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n');
  return withoutComments.split(/\n\s*\n/).flatMap((paragraph) => {
    const field = (name: string) => new RegExp(`^${name}:((?:.*)(?:\\n[ \\t].*)*)`, 'im').exec(paragraph)?.[1].trim() ?? '';
    if (!words(field('Types')).includes('deb') || /^(no|false|without|off|disable|0)$/i.test(field('Enabled'))) return [];
    return words(field('URIs')).flatMap((address) => words(field('Suites')).map((suite) => ({ address, suite, keys: field('Signed-By') })));
  });
}

const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '');

/**
 * The address of Debian 12's own packages among the sources, null where there is none: its host is Debian's, or it is checked with Debian's keys, or
 * has Debian's updates as well. Others may call their suites as Debian does.
 */
export function debianMirror(sources: readonly AptSource[]): string | null {
  const plain = (address: string) => address.replace(/\/+$/, '');
  const serves = (suite: string) => sources.filter((each) => each.suite === suite);
  const updates = new Set(serves('bookworm-updates').map(({ address }) => plain(address)));
  const own = serves('bookworm').find(
    ({ address, keys }) =>
      /^https?:\/\/[\w.:/~%+-]+$/.test(address) && (DEBIAN_HOST.test(address) || keys === DEBIAN_KEYS || updates.has(plain(address))),
  );
  return own ? plain(own.address) : null;
}
