#!/usr/bin/env node
/** The command line: `npm run -s supir -- <command>`. */
import './check-node.ts';

import module from 'node:module';

// Both count for modules that are loaded afterwards. Node 22 keeps what it compiled of them from run to run.
module.enableCompileCache?.();
// A compiled program's stacks then tell files and lines of the sources.
if (process.argv.includes('--debug')) process.setSourceMapsEnabled(true);
const { runSupir } = await import('./supir.ts');

/** What is printed is for whoever reads it: should they go away, or the disk behind it be full, the work goes on. */
let printing: NodeJS.ErrnoException | null = null;
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') printing ??= error;
  });

const code = await runSupir(process.argv.slice(2));
if (printing) process.stderr.write(`What was printed could not all be written: ${(printing as NodeJS.ErrnoException).message}.\n`);
process.exit(code === 0 && printing ? 1 : code);
