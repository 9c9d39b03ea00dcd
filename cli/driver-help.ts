/**
 * How to get a Vulkan driver that Dawn accepts, by Linux distribution. Debian 12's own Mesa (22.3) is too old for Dawn, its backport works;
 * newer releases work as they are. Mesa's drivers include lavapipe, which computes on the processor where there is no GPU.
 */
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { driverByHand } from '../host/node-driver.ts';
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

/** A shell command for root that installs a working driver; null where none is known. */
export function installCommand({ id, version }: OsRelease): string | null {
  const packages = 'mesa-vulkan-drivers libvulkan1';
  if (id === 'debian' && version === '12') {
    // Backports are served by the mirror that this machine already uses.
    const mirror = `$(grep -hroE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list* | head -n 1)`;
    return [
      `echo "deb ${mirror} bookworm-backports main" > ${BACKPORTS}`,
      'apt-get update',
      `apt-get install -y --no-install-recommends -t bookworm-backports ${packages}`,
    ].join(' && ');
  }
  if (id === 'debian' || id === 'ubuntu') return `apt-get update && apt-get install -y --no-install-recommends ${packages}`;
  if (id === 'fedora') return 'dnf install -y mesa-vulkan-drivers vulkan-loader';
  if (id === 'arch') return 'pacman -S --noconfirm vulkan-swrast vulkan-icd-loader';
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

/** How an administrator of this Linux gets a working driver. */
export function installAdvice(): string {
  const command = installCommand(osRelease());
  return command ? `sudo sh -c '${command}'` : "install your distribution's Mesa Vulkan drivers (23 or newer) and Vulkan loader";
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
