/** The oldest Node that this runs on, so that an older one is told of in words before something that it lacks is missed. */

const OLDEST = [20, 12] as const;

/** A sentence for Node older than package.json's `engines` allows; null where it is new enough, and in Bun and Deno. */
export function oldNode(versions: { node?: string; bun?: string; deno?: string } = process.versions): string | null {
  const { node, bun, deno } = versions;
  if (!node || bun || deno) return null;
  const [major, minor] = node.split('.').map(Number);
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return null;
  return `Node ${OLDEST.join('.')} or newer is needed, and this is ${node}. Install a newer one from https://nodejs.org.`;
}
