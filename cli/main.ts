#!/usr/bin/env node
/** The command line: `npm run -s supir -- <command>`. Errors are one paragraph; `--debug` adds the stack. */
import { Command } from 'commander';
import { DeviceError, UserError } from '../core/errors.ts';
import { shownMessage } from '../core/text.ts';
import { host } from '../host/node.ts';
import { convertCommand } from './convert.ts';
import { degradeCommand } from './degrade.ts';
import { doctor } from './doctor.ts';
import { evaluateCommand } from './evaluate.ts';
import { inspectCommand } from './inspect.ts';
import { Interrupted } from './interrupt.ts';
import { words } from './messages.ts';
import { planCommand } from './plan.ts';
import { PartialFailure, restoreCommand } from './restore.ts';
import { shadersCommand } from './shaders.ts';
import { trainCommand } from './train.ts';
import { verifyCommand } from './verify.ts';

const doctorCommand = new Command('doctor')
  .description('Says which adapter computes here, what it offers, and what to type when none does.')
  .option('--json', 'print a JSON object')
  .action(async ({ json }) => {
    process.exitCode = await doctor(json ? ['--json'] : []);
  });

const program = new Command('supir')
  .description('Photo restoration with SUPIR on WebGPU.')
  .option('--debug', 'print the stack of an error')
  .configureHelp({ sortSubcommands: true })
  .addCommand(restoreCommand())
  .addCommand(planCommand())
  .addCommand(doctorCommand)
  .addCommand(verifyCommand())
  .addCommand(inspectCommand())
  .addCommand(convertCommand())
  .addCommand(degradeCommand())
  .addCommand(evaluateCommand())
  .addCommand(trainCommand())
  .addCommand(shadersCommand());
for (const command of [program, ...program.commands]) command.exitOverride();

/** What is printed is for whoever reads it: should they go away, or the disk behind it be full, the work goes on. */
let printing: NodeJS.ErrnoException | null = null;
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') printing ??= error;
  });

const code = await run();
if (printing) process.stderr.write(`What was printed could not all be written: ${(printing as NodeJS.ErrnoException).message}.\n`);
process.exit(code === 0 && printing ? 1 : code);

async function run(): Promise<number> {
  try {
    host.debug?.(); // refuses what SUPIR_DEBUG cannot print, before any work
    await program.parseAsync();
    return Number(process.exitCode ?? 0);
  } catch (error) {
    // commander has printed its own message already.
    if ((error as { code?: string }).code?.startsWith('commander.')) return (error as { exitCode: number }).exitCode === 0 ? 0 : 2;
    process.stderr.write(`${words(error as Error)}\n`);
    if (program.opts().debug) process.stderr.write(`${shownMessage((error as Error).stack ?? '')}\n`);
    if (error instanceof PartialFailure) return 1;
    if (error instanceof UserError) return 2;
    if (error instanceof DeviceError) return 3;
    if (error instanceof Interrupted) return 130;
    return 1;
  }
}
