/**
 * How to get a Vulkan driver that Dawn accepts, by Linux distribution. Debian 12's own Mesa (22.3) is too old for Dawn, its backport works;
 * newer releases work as they are. Mesa's drivers include lavapipe, which computes on the processor where there is no GPU.
 */
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { driverByHand } from '../host/node-driver.ts';
import { aptSources, DEBIAN_KEYS, debianMirror } from './apt-sources.ts';
import { isClone } from './program.ts';

export interface OsRelease {
  /** `debian`, `ubuntu`, `fedora`, ... as in /etc/os-release; the platform's name elsewhere. */
  id: string;
  /** Like `12` or `24.04`; empty where there is none. */
  version: string;
  name: string;
}

export function osRelease(): OsRelease {
  if (process.platform !== 'linux') return { id: process.platform, version: '', name: process.platform };
  let text = '';
  try {
    text = readFileSync('/etc/os-release', 'utf8');
  } catch {}
  const field = (name: string) => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(text)?.[1] ?? '';
  return { id: field('ID') || 'linux', version: field('VERSION_ID'), name: field('PRETTY_NAME') || 'Linux' };
}

/** The package source that Debian 12 needs for a Mesa new enough. */
export const BACKPORTS = '/etc/apt/sources.list.d/supir-webgpu-backports.list';
const PACKAGES = 'mesa-vulkan-drivers libvulkan1';

/** How root gets a working driver. */
export interface Installation {
  /** A shell command. */
  command: string;
  /** What it changes beside installing packages; empty where nothing. */
  adds: string;
  /** A shell command that takes all of it away. */
  undo: string;
}

/** Null where none is known. `mirror`: of Debian's own packages, for Debian 12; null where the machine's sources name none. */
export function installation({ id, version }: OsRelease, mirror: string | null = debianMirror(aptSources())): Installation | null {
  if (id === 'debian' && version === '12') {
    if (mirror === null) return null;
    const source = `deb [signed-by=${DEBIAN_KEYS}] ${mirror} bookworm-backports main`;
    return {
      command: [
        `echo "${source}" > ${BACKPORTS}`,
        'apt-get update',
        `apt-get install -y --no-install-recommends -t bookworm-backports ${PACKAGES}`,
      ].join(' && '),
      adds: `the package source ${BACKPORTS}: Debian's backports from ${mirror}, checked with Debian's own keys`,
      undo: `apt-get purge -y --autoremove ${PACKAGES} && rm -f ${BACKPORTS} && apt-get update`,
    };
  }
  const of = (command: string, undo: string): Installation => ({ command, adds: '', undo });
  if (id === 'debian' || id === 'ubuntu')
    return of(`apt-get update && apt-get install -y --no-install-recommends ${PACKAGES}`, `apt-get purge -y --autoremove ${PACKAGES}`);
  if (id === 'fedora') return of('dnf install -y mesa-vulkan-drivers vulkan-loader', 'dnf remove -y mesa-vulkan-drivers vulkan-loader');
  if (id === 'arch') return of('pacman -S --noconfirm vulkan-swrast vulkan-icd-loader', 'pacman -Rs vulkan-swrast vulkan-icd-loader');
  return null;
}

/** What to type when no adapter works here; set-up, once it has tried, does not advise itself. */
export function mend(setUpTried = false): string {
  const byHand = driverByHand();
  if (byHand.length > 0) {
    return `${byHand.join(' and ')} selects the driver, and it does not work. Take it away: unset ${byHand.map((each) => each.split('=')[0]).join(' ')}`;
  }
  if (process.platform === 'win32')
    return 'Install the current driver of your graphics card, or Microsoft\'s "OpenCL, OpenGL, and Vulkan Compatibility Pack".';
  if (process.platform === 'darwin')
    return 'Metal serves WebGPU on every Mac since macOS 11: update macOS, and run outside virtual machines without a GPU.';
  if (setUpTried || !isClone) return installAdvice(); // an installed program has no set-up
  return `npm run setup\nIt installs a software driver if it may, and unpacks a slower one if not. As an administrator: ${installAdvice()}`;
}

/** What an administrator types, what it adds, and how to take it away. */
export function asRoot({ command, adds, undo }: Installation): string {
  const sudo = (text: string) => `sudo sh -c '${text.replaceAll("'", "'\\''")}'`;
  return `${sudo(command)}${adds ? `\nIt adds ${adds}.` : ''}\nTo undo it: ${sudo(undo)}`;
}

/** How an administrator of this Linux gets a working driver. */
export function installAdvice(): string {
  const found = installation(osRelease());
  return found ? asRoot(found) : "install your distribution's Mesa Vulkan drivers (23 or newer) and Vulkan loader";
}

/** GPU device files this user may not open: the usual reason why only a software adapter answers. */
export function lockedGpus(): string[] {
  let names: string[] = [];
  try {
    names = readdirSync('/dev/dri').filter((name) => name.startsWith('renderD'));
  } catch {}
  return names
    .map((name) => `/dev/dri/${name}`)
    .filter((path) => {
      try {
        accessSync(path, constants.R_OK | constants.W_OK);
        return false;
      } catch {
        return true;
      }
    });
}
