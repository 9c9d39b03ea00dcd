/** `inspect <file|folder|url>...`: what files of weights are, what they hold, and what is missing to restore with them. Reads indices only. */
import { Command } from 'commander';
import { adviceFor, count, describe, inspection } from '../restore/inspection.ts';
import { elementCount, type TensorFile } from '../weights/tensor-file.ts';
import { openInputs } from './weights-input.ts';

const EXAMPLES = `
Examples:
  $ npm run -s supir -- inspect sd_xl_base_1.0_0.9vae.safetensors SUPIR-v0Q.ckpt
  $ npm run -s supir -- inspect models/juggernaut-diffusers --tree 3`;

interface Flags {
  tree?: string | true;
  json?: boolean;
}

export function inspectCommand(): Command {
  return new Command('inspect')
    .description('Says what files of weights are, what they hold, and what is missing.')
    .argument('<file...>', 'files (.safetensors, .ckpt, .pt, .bin, .index.json), folders or web addresses')
    .option('--tree [depth]', 'print the names as a tree, to a depth (default: all of it)')
    .option('--json', 'print a JSON object')
    .addHelpText('after', EXAMPLES)
    .action((paths: string[], flags: Flags) => inspect(paths, flags));
}

async function inspect(paths: string[], flags: Flags): Promise<void> {
  const opened = await openInputs(paths);
  const found = inspection(opened);
  for (const file of opened) await file.close?.();
  const { files, recognized, usable, missing } = found;
  if (flags.json) {
    console.log(JSON.stringify({ files, together: { complete: missing === null, missing } }, null, 1));
    return;
  }
  for (const [i, file] of files.entries()) {
    console.log(describe(file, adviceFor(file, found)));
    if (flags.tree) console.log(tree(recognized[i].model, flags.tree === true ? Number.POSITIVE_INFINITY : Number(flags.tree)));
  }
  if (usable > 0) console.log(missing ?? 'Together they are a complete model.');
}

interface Branch {
  children: Map<string, Branch>;
  tensors: number;
  parameters: number;
  leaf: string;
}

function tree(file: TensorFile, depth: number): string {
  const branch = (): Branch => ({ children: new Map(), tensors: 0, parameters: 0, leaf: '' });
  const root = branch();
  for (const name of file.names()) {
    const { dtype, shape } = file.info(name);
    let at = root;
    for (const key of name.split('.')) {
      const child = at.children.get(key) ?? branch();
      at.children.set(key, child);
      child.tensors++;
      child.parameters += elementCount(shape);
      at = child;
    }
    at.leaf = `${dtype} [${shape}]`;
  }
  return [...lines(root, '  ', depth)].join('\n');
}

function* lines({ children }: Branch, indent: string, depth: number): Generator<string> {
  if (depth < 1) return;
  for (const [key, child] of children) {
    yield `${indent}${key}  ${child.leaf || `${count(child.tensors, 'tensor')}, ${count(child.parameters, 'parameter')}`}`;
    yield* lines(child, `${indent}  `, depth - 1);
  }
}
