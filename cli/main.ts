#!/usr/bin/env node
/** The command line: `npm run -s supir -- <command>`. Errors are one paragraph; `--debug` adds the stack. */
import './check-node.ts';

import { Command } from 'commander';
import { DeviceError, UserError } from '../core/errors.ts';
import { shownMessage } from '../core/text.ts';
import { host, useGpu } from '../host/node.ts';
import { convertCommand } from './convert.ts';
import { degradeCommand } from './degrade.ts';
import { doctorCommand } from './doctor-command.ts';
import { evaluateCommand } from './evaluate.ts';
import { inspectCommand } from './inspect.ts';
import { Interrupted } from './interrupt.ts';
import { words } from './messages.ts';
import { planCommand } from './plan.ts';
import { PartialFailure, restoreCommand } from './restore.ts';
import { shadersCommand } from './shaders.ts';
import { trainCommand } from './train.ts';
import { verifyCommand } from './verify.ts';

/** Commands that use the GPU. */
const COMPUTING = ['restore', 'plan', 'verify', 'evaluate', 'train', 'doctor'];

const program = new Command('supir')
  .description('Photo restoration with SUPIR on WebGPU.')
  .option('--debug', 'print the stack of an error')
  .configureHelp({ sortSubcommands: true })
  .addCommand(restoreCommand())
  .addCommand(planCommand())
  .addCommand(doctorCommand())
  .addCommand(verifyCommand())
  .addCommand(inspectCommand())
  .addCommand(convertCommand())
  .addCommand(degradeCommand())
  .addCommand(evaluateCommand())
  .addCommand(trainCommand())
  .addCommand(shadersCommand());
for (const command of [program, ...program.commands]) command.exitOverride();
for (const command of program.commands.filter((each) => COMPUTING.includes(each.name())))
  command
    .option('--gpu <which>', 'the GPU to use, where there are several: its number, or a part of its name; see doctor --list')
    .hook('preAction', (_, action) => {
      const { gpu } = action.opts<{ gpu?: string }>();
      if (gpu !== undefined) useGpu(gpu);
    });

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
