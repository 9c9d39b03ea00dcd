/** The checkout of this project whose library a benchmark runs: this one or another, of which only what it exports is used, and files that have stayed where they were. */
import { pathToFileURL } from 'node:url';
import { parameters } from '../core/module.ts';
import { attach } from '../weights/attach.ts';
import { type SyntheticSpec, syntheticCheckpoint } from '../weights/synthetic.ts';

const OWN = { parameters, attach, syntheticCheckpoint };

/** The library in a folder, by default this checkout's, with what gives its networks weights; `part` loads another of its files. */
export async function checkoutAt(folder?: string) {
  const root = folder === undefined ? new URL('../', import.meta.url) : new URL(`${pathToFileURL(folder).href}/`);
  const part = <T>(path: string): Promise<T> => import(new URL(path, root).href);
  const [library, { attach }, { syntheticCheckpoint }, { host }] = await Promise.all([
    part<typeof import('../index.ts')>('index.ts'),
    part<typeof import('../weights/attach.ts')>('weights/attach.ts'),
    part<typeof import('../weights/synthetic.ts')>('weights/synthetic.ts'),
    part<typeof import('../host/node.ts')>('host/node.ts'),
  ]);
  return { library, host, part, weights: { parameters: library.parameters, attach, syntheticCheckpoint } };
}

/**
 * Gives every weight below `root` values that keep activations near 1: matrices by their fan in, norms' scales around 1, biases small. The functions
 * are those of the network's own checkout.
 */
export function attachSynthetic(root: object, prefix: string, { parameters, attach, syntheticCheckpoint }: typeof OWN = OWN): void {
  const specs = [...parameters(root)].map(([path, { shape, kind }]): [string, SyntheticSpec] => {
    const vector = path.endsWith('.bias') ? 'bias' : 'norm_weight';
    return [`${prefix}${path}`, { shape, kind: kind === 'vector' ? vector : 'matrix' }];
  });
  attach(root, prefix, syntheticCheckpoint({ model: Object.fromEntries(specs) }, ['model']));
}
