/** What the blocks of a network are called where there is little room: which network each is of, and the rest of its path. */
import type { GraphBlock } from '../drawing/graph-blocks.ts';

export interface BlockName {
  /** For the eye: networks that steer, the steered one, and the places where both meet. */
  family: 'control' | 'project' | 'unet';
  /** The family in words. */
  title: string;
  /** The path within its network. */
  short: string;
}

type Named = Pick<GraphBlock, 'path' | 'network'>;

/** By path. */
export function blockNamesOf(blocks: readonly Named[]): Map<string, BlockName> {
  const roots = new Map<string, string>();
  for (const { network } of blocks) {
    if (!roots.has(network)) roots.set(network, commonRoot(blocks.filter((each) => each.network === network).map(({ path }) => path)));
  }
  return new Map(
    blocks.map(({ path, network }) => {
      const short = path.slice(roots.get(network)!.length).replace(/_(blocks?|modules|convs)/, '');
      const isProject = moduleOf(path) !== null;
      const [family, title]: [BlockName['family'], string] = isProject
        ? ['project', 'project modules']
        : /control/i.test(network)
          ? ['control', 'control network']
          : ['unet', /^(Supir)?Unet$/.test(network) ? 'UNet' : network];
      return [path, { family, title, short }];
    }),
  );
}

/** The path, with its last dot, that all begin with. */
function commonRoot(paths: readonly string[]): string {
  const steps = paths[0].split('.').slice(0, -1);
  let root = '';
  for (const step of steps) {
    const longer = `${root}${step}.`;
    if (!paths.every((path) => path.startsWith(longer))) break;
    root = longer;
  }
  return root;
}

/** The index of a project module, or null. */
export function moduleOf(path: string): number | null {
  const [, index] = /project_modules\.(\d+)$/.exec(path) ?? [];
  return index === undefined ? null : Number(index);
}
