/** `shaders [pattern]`: the WGSL that kernels emit, whole and formatted, as the compiler gets it but for the indentation. */
import { Command, Option } from 'commander';
import { UserError } from '../core/errors.ts';
import { formatWgsl } from '../core/format-wgsl.ts';
import { allShaders, type CatalogueShader } from '../kernels/catalogue.ts';
import { COMMAND } from './program.ts';

const EXAMPLES = `
Examples:
  $ ${COMMAND} shaders                                        names of all shaders
  $ ${COMMAND} shaders softmax
  $ ${COMMAND} shaders 'matmul.*windowed' --schedule tiled --width q4
  $ ${COMMAND} shaders attention --schedule subgroup --names`;

const SCHEDULES = ['subgroup', 'tiled', 'matrix'] as const;
const WIDTHS = ['f32', 'f16', 'q8', 'q4'] as const;

interface Flags {
  schedule?: (typeof SCHEDULES)[number];
  width?: (typeof WIDTHS)[number];
  names?: boolean;
}

export function shadersCommand(): Command {
  return new Command('shaders')
    .description('Prints the WGSL of kernels, whole and formatted. No adapter is needed.')
    .argument('[pattern]', "regular expression on shaders' names; without it all names are listed")
    .addOption(new Option('--schedule <schedule>', 'only those of adapters of this schedule').choices(SCHEDULES))
    .addOption(new Option('--width <type>', 'only those that read tensors of this type; f32: of no other float type').choices(WIDTHS))
    .option('--names', 'list names only')
    .addHelpText('after', EXAMPLES)
    .action((pattern: string | undefined, flags: Flags) => print(pattern, flags));
}

function print(pattern: string | undefined, { schedule, width, names }: Flags): void {
  const wanted = matcher(pattern ?? '');
  const found = allShaders().filter(
    (shader) => wanted.test(shader.name) && (!schedule || shader.schedules.has(schedule)) && (!width || reads(shader, width)),
  );
  if (found.length === 0)
    throw new UserError(`No shader is called so. \`${COMMAND} shaders\` lists their names; the pattern is a regular expression on them.`);
  const texts = found.map(({ name, wgsl }) => (names || pattern === undefined ? `${name}\n` : formatWgsl(wgsl)));
  process.stdout.write(texts.join(names || pattern === undefined ? '' : '\n'));
}

function matcher(pattern: string): RegExp {
  try {
    return new RegExp(pattern, 'i');
  } catch (cause) {
    throw new UserError(`The pattern is no regular expression: ${(cause as Error).message}.`, { cause });
  }
}

function reads({ types }: CatalogueShader, width: (typeof WIDTHS)[number]): boolean {
  return width === 'f32' ? !WIDTHS.some((other) => other !== 'f32' && types.has(other)) : types.has(width);
}
