/** `inspect <file|folder|url>...`: what files of weights are, what they hold, and what is missing to restore with them. Reads indices only. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import { drawGraph } from '../drawing/graph-svg.ts';
import { host } from '../host/node.ts';
import { adviceFor, count, describe, inspection, namesShown } from '../restore/inspection.ts';
import { METHODS } from '../restore/methods.ts';
import { networkGraph, networkNames } from '../restore/network-graphs.ts';
import type { Kind } from '../restore/stage.ts';
import { Checkpoint } from '../weights/checkpoint.ts';
import { compareWeights, type WeightComparison } from '../weights/compare.ts';
import { recognize } from '../weights/recognize.ts';
import { elementCount, type TensorFile } from '../weights/tensor-file.ts';
import { words } from './messages.ts';
import { modelOr } from './model-config.ts';
import { checkOutput } from './photo-files.ts';
import { COMMAND } from './program.ts';
import { methodOption } from './restore-options.ts';
import { openInputs } from './weights-input.ts';

const EXAMPLES = `
Examples:
  $ ${COMMAND} inspect sd_xl_base_1.0_0.9vae.safetensors SUPIR-v0Q.ckpt
  $ ${COMMAND} inspect models/juggernaut-diffusers --tree 3
  $ ${COMMAND} inspect sd_xl_base_1.0_0.9vae.safetensors --compare sd_xl_base_q4.safetensors
  $ ${COMMAND} inspect --graph denoiser -o denoiser.svg
  $ ${COMMAND} inspect --graph decoder --model demo --size 256x256 --json
  $ ${COMMAND} inspect --graph control --method diffbir --size 512x512 -o control.svg`;

interface Flags {
  tree?: string | true;
  compare?: string;
  graph?: string;
  model?: string;
  method?: string;
  size: [width: number, height: number];
  output?: string;
  json?: boolean;
}

/** Of all methods. */
const NETWORKS = [...new Set([...METHODS].reverse().flatMap((method) => networkNames(method)))];

export function inspectCommand(): Command {
  return new Command('inspect')
    .description('Says what files of weights are, what they hold, and what is missing. Draws networks.')
    .argument('[file...]', 'files (.safetensors, .ckpt, .pt, .bin, .index.json), folders or web addresses')
    .option('--compare <file>', "read all weights, and tell how far each of this file's is from the first file's")
    .option('--tree [depth]', 'print the names as a tree, to a depth (default: all of it)')
    .addOption(new Option('--graph <network>', 'draw a network with shapes, parameters and arithmetic').choices(NETWORKS))
    .option('--model <folder>', "the drawn network's sizes are this model's (default: the published model's)")
    .addOption(methodOption('whose network'))
    .addOption(new Option('--size <pixels>', 'of the image that is drawn for').argParser(size).default([1024, 1024], '1024x1024'))
    .option('-o, --output <file.svg>', 'where the drawing goes (default: standard output)')
    .option('--json', 'print a JSON object')
    .addHelpText('after', EXAMPLES)
    .action((paths: string[], flags: Flags) => (flags.graph === undefined ? inspect(paths, flags) : draw(flags.graph, flags)));
}

function size(text: string): [number, number] {
  const [, width, height] = /^(\d+)x(\d+)$/.exec(text) ?? [];
  if (!(Number(width) > 0 && Number(height) > 0)) throw new InvalidArgumentError('It must be width x height, such as 1024x768.');
  return [Number(width), Number(height)];
}

async function draw(network: string, { model, method: name, size: [width, height], output, json }: Flags): Promise<void> {
  if (output !== undefined) checkOutput(output, ['.svg']);
  const { method, config } = await modelOr(model, model === undefined ? (name ?? 'supir') : name, '');
  const networks = networkNames(method);
  if (!networks.includes(network))
    throw new UserError(`${method.name} has no network '${network}'; there are: ${networks.join(', ')}.`, { code: 'no-network' });
  const multiple = config.image_multiple;
  if (width % multiple || height % multiple)
    throw new UserError(`--size ${width}x${height}: both sides must be multiples of ${multiple} for ${config.name}.`);
  const graph = networkGraph<Kind>(config, network, width, height, method);
  const svg = drawGraph(graph, `${network} of ${config.name} at ${width} × ${height} pixels`);
  if (output !== undefined) await host.writeFileAtomic(output, new TextEncoder().encode(svg));
  if (json) console.log(JSON.stringify({ network, width, height, ...graph, ...(output === undefined ? {} : { output }) }));
  else if (output === undefined) process.stdout.write(svg);
  else console.log(`Drawn in ${output}`);
}

async function inspect(paths: string[], flags: Flags): Promise<void> {
  if (paths.length === 0) throw new UserError('Name files of weights, or draw a network with --graph.');
  if (flags.compare !== undefined) return compare(paths, flags.compare, flags);
  const opened = await openInputs(paths);
  const found = inspection(opened);
  for (const file of opened) await file.close?.();
  const { files, recognized, usable, method, missing } = found;
  if (flags.json) {
    console.log(
      JSON.stringify({ files, together: { complete: missing === null, ...(method === null ? {} : { method }), missing } }, null, 1),
    );
    return;
  }
  for (const [i, file] of files.entries()) {
    console.log(describe(file, words({ message: adviceFor(file, found), code: file.code })));
    if (flags.tree) console.log(tree(recognized[i].model, flags.tree === true ? Number.POSITIVE_INFINITY : Number(flags.tree)));
  }
  if (usable > 0) console.log(missing ?? `Together they are a complete model${method === 'SUPIR' ? '' : `, of the method ${method}`}.`);
}

/** Layers shown; --json has all. */
const SHOWN = 20;

async function compare(paths: string[], other: string, { json }: Flags): Promise<void> {
  const first = await openInputs(paths);
  const second: TensorFile[] = [];
  try {
    second.push(...(await openInputs([other])));
    const [a, b] = [first, second].map((files) => new Checkpoint(files.map((file) => recognize(file).model)));
    const show =
      json || !process.stderr.isTTY ? undefined : (done: number, of: number) => process.stderr.write(`\r${done} of ${of} tensors `);
    const result = await compareWeights(a, b, show);
    if (show) process.stderr.write('\n');
    if (json) console.log(JSON.stringify({ first: a.name, second: b.name, ...result }, null, 1));
    else for (const line of comparisonLines(result)) console.log(line);
  } finally {
    for (const file of [...first, ...second]) await file.close?.();
  }
}

function comparisonLines({ tensors, relative, onlyFirst, onlySecond, otherShapes }: WeightComparison): string[] {
  if (tensors.length === 0) throw new UserError('The files have no tensor of real numbers in common: are they parts of one model?');
  const exact = tensors.filter((each) => each.max === 0).length;
  const lists = [
    ['only in the first', onlyFirst],
    ['only in the second', onlySecond],
    ['of other shapes', otherShapes],
  ] as const;
  return [
    'relative error  largest error  dtypes      tensor',
    ...tensors
      .slice(0, SHOWN)
      .filter(({ max }) => max !== 0)
      .map(({ name, dtypes, relative, max }) =>
        [relative.toExponential(3).padStart(14), max.toExponential(3).padStart(13), dtypes.join(' ').padEnd(10), shown(name, 200)].join(
          '  ',
        ),
      ),
    ...(tensors.length > SHOWN ? [`and ${tensors.length - SHOWN} more that are closer; --json has them all`] : []),
    `${count(tensors.length, 'tensor')}, ${exact} of them equal; relative error over all ${relative.toExponential(3)}`,
    ...lists.filter(([, names]) => names.length > 0).map(([title, names]) => `${title}: ${namesShown(names)}`),
  ];
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
    yield `${indent}${shown(key, 200)}  ${child.leaf || `${count(child.tensors, 'tensor')}, ${count(child.parameters, 'parameter')}`}`;
    yield* lines(child, `${indent}  `, depth - 1);
  }
}
