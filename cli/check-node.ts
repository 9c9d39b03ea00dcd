/** Imported before all else by what a person starts: ends the program with a sentence where Node is too old for the rest. */
import { oldNode } from '../host/node-version.ts';

const problem = oldNode();
if (problem) {
  process.stderr.write(`${problem}\n`);
  process.exit(1);
}
