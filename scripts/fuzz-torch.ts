/**
 * Fuzzes the reader of PyTorch checkpoints for longer than the tests do: `npx tsx scripts/fuzz-torch.ts [count, default 50000] [seed, default 1]`.
 * Prints what became of the damaged files; exits 1 at the first that neither opens nor is refused as it should be.
 */
import { fuzzTorch } from '../test/fuzz/torch.ts';

const [count = 50000, seed = 1] = process.argv.slice(2).map(Number);
const { opened, refused, partly, slowest } = await fuzzTorch(count, seed);
console.log(
  `${count} damaged PyTorch checkpoints (seed ${seed}): ${refused} refused with a UserError, ${partly} when a tensor was read, ${opened} opened; slowest ${slowest.toFixed(0)} ms, peak ${(process.resourceUsage().maxRSS / 1000).toFixed(0)} MB.`,
);
