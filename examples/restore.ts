/**
 * Restoring in ten lines. Run it with: npx tsx examples/restore.ts [folder for the result, default out/examples]
 */
import { argv } from 'node:process';
import { decode, encodePng, Restorer } from 'supir-webgpu';
import { DEMO } from 'supir-webgpu/demo';
import { host } from 'supir-webgpu/host/node';

const restorer = await Restorer.load(host, DEMO);
const photo = await decode(await host.readFile(`${DEMO}/photos/astronaut-noisy.jpg`), 'astronaut-noisy.jpg');
const { image } = await restorer.restore(photo, { seed: 7, steps: 2 }, { step: ({ step, steps }) => console.log(step, 'of', steps) });
const file = `${argv[2] ?? 'out/examples'}/restored.png`;
await host.writeFileAtomic(file, encodePng(image));
await restorer.close();
console.log(`wrote ${file}`);
