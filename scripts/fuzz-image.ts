/** Decodes damaged image files: `npx tsx scripts/fuzz-image.ts [count] [seed]`. Exits 1 if one neither decodes nor raises a UserError in time. */
import { fuzzImages } from '../test/fuzz/image-mutations.ts';

const [count = 1000, seed = 1] = process.argv.slice(2).map(Number);
const { decoded, refused, slowest, failures } = await fuzzImages(count, seed);
for (const failure of failures) console.log(failure);
console.log(`${decoded} decoded, ${refused} refused, ${failures.length} failed; slowest ${slowest.toFixed(0)} ms`);
process.exit(failures.length > 0 ? 1 : 0);
