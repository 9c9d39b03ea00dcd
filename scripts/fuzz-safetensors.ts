/**
 * Fuzzes the safetensors reader for longer than the tests do: `npx tsx scripts/fuzz-safetensors.ts [count, default 20000] [seed, default 1]`.
 * Prints how many damaged files opened and how many were refused; exits 1 at the first that does neither as it should.
 */
import { fuzzSafetensors } from '../test/fuzz/safetensors.ts';

const [count = 20000, seed = 1] = process.argv.slice(2).map(Number);
const { opened, refused } = await fuzzSafetensors(count, seed);
console.log(`${count} damaged safetensors files (seed ${seed}): ${opened} opened, ${refused} refused with a UserError.`);
