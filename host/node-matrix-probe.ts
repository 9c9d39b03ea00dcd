/**
 * The process of its own in which matrix units are tried, for drivers have crashed on them: `node-matrix-probe.ts <flags>`, the flags of Dawn as a JSON
 * list. Prints the choice as JSON.
 */
import { chooseMatrixUnit } from '../gpu/matrix-probe.ts';
import { useNotedDriver } from './node-driver.ts';

useNotedDriver();
const { create } = await import('webgpu');
const choice = await chooseMatrixUnit(create(JSON.parse(process.argv[2]) as string[]));
process.stdout.write(JSON.stringify(choice), () => process.exit(0));
