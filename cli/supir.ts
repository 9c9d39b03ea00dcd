/** The program `supir`: its commands, and what its exit codes mean. Errors are one paragraph; `--debug` adds the stack. */
import { Command } from 'commander';
import { DeviceError, UserError } from '../core/errors.ts';
import { shownMessage } from '../core/text.ts';
import { host, useGpu, useUnchecked } from '../host/node.ts';
import { forgetInterrupts, Interrupted } from './interrupt.ts';
import { words } from './messages.ts';
import { PartialFailure } from './partial-failure.ts';

/** The commands by name. Each is loaded when it is meant: what others import takes longer to load than some commands to run. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  restore: async () => (await import('./restore.ts')).restoreCommand(),
  plan: async () => (await import('./plan.ts')).planCommand(),
  doctor: async () => (await import('./doctor-command.ts')).doctorCommand(),
  verify: async () => (await import('./verify.ts')).verifyCommand(),
  inspect: async () => (await import('./inspect.ts')).inspectCommand(),
  convert: async () => (await import('./convert.ts')).convertCommand(),
  degrade: async () => (await import('./degrade.ts')).degradeCommand(),
  caption: async () => (await import('./caption.ts')).captionCommand(),
  evaluate: async () => (await import('./evaluate.ts')).evaluateCommand(),
  train: async () => (await import('./train.ts')).trainCommand(),
  shaders: async () => (await import('./shaders.ts')).shadersCommand(),
  report: async () => (await import('./report.ts')).reportCommand(),
  serve: async () => (await import('./serve/command.ts')).serveCommand(),
};

/** Commands that use the GPU. */
const COMPUTING = ['restore', 'plan', 'verify', 'evaluate', 'train', 'doctor', 'serve'];

/** The program with the command that the arguments name; with all of them where they name none. */
async function programFor(args: readonly string[]): Promise<Command> {
  const name = args.find((arg) => !arg.startsWith('-')) ?? '';
  const meant = Object.hasOwn(COMMANDS, name) ? [COMMANDS[name]] : Object.values(COMMANDS);
  const program = new Command('supir')
    .description('Photo restoration with SUPIR on WebGPU.')
    .option('--debug', 'print the stack of an error')
    .configureHelp({ sortSubcommands: true });
  for (const command of await Promise.all(meant.map((make) => make()))) program.addCommand(command);
  for (const command of [program, ...program.commands]) command.exitOverride();
  for (const command of program.commands.filter((each) => COMPUTING.includes(each.name())))
    command
      .option('--gpu <which>', 'the GPU to use, where there are several: its number, or a part of its name; see doctor --list')
      .option('--unchecked', "do without Dawn's checks of commands and memory, for speed on some GPUs; a fault may then end the process")
      .hook('preAction', (_, action) => {
        const { gpu, unchecked } = action.opts<{ gpu?: string; unchecked?: true }>();
        if (gpu !== undefined) useGpu(gpu);
        if (unchecked) useUnchecked();
      });
  return program;
}

/** Runs the command that the arguments name, and gives the exit code. It ends no process, but for a second signal to stop. */
export async function runSupir(args: readonly string[]): Promise<number> {
  const supir = await programFor(args);
  process.exitCode = undefined; // commands set it
  try {
    host.debug?.(); // refuses what SUPIR_DEBUG cannot print, before any work
    await supir.parseAsync(args, { from: 'user' });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    // commander has printed its own message already.
    if ((error as { code?: string }).code?.startsWith('commander.')) return (error as { exitCode: number }).exitCode === 0 ? 0 : 2;
    process.stderr.write(`${words(error as Error)}\n`);
    if (supir.opts().debug) process.stderr.write(`${shownMessage((error as Error).stack ?? '')}\n`);
    if (error instanceof PartialFailure) return 1;
    if (error instanceof UserError) return 2;
    if (error instanceof DeviceError) return 3;
    if (error instanceof Interrupted) return 130;
    return 1;
  } finally {
    forgetInterrupts();
  }
}
