/**
 * `npx tsx bench/page.ts`: a demo restoration in the page beside the same one in Node, both on SwiftShader in the tiled schedule: wall and processor time of a second
 * run, when all pipelines are compiled. Chromium's processes are all counted.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { host } from '../host/node.ts';
import { crop } from '../image/compose.ts';
import { decode } from '../image/decode.ts';
import { encodePng } from '../image/encode.ts';
import type { Image } from '../image/image.ts';
import { Restorer } from '../restore/restorer.ts';
import { unpackSwiftShader } from '../scripts/chromium-pack.ts';
import { PageDriver } from '../test/web/page-driver.ts';

interface Took {
  seconds: number;
  cpu: number;
}

const STEPS = 5;
const SIDE = 64;

async function photo(): Promise<Image> {
  return crop(await decode(await host.readFile('demo/photos/astronaut-noisy.jpg'), 'astronaut'), 88, 24, SIDE, SIDE);
}

async function inNode(): Promise<Took> {
  const restorer = await Restorer.load(host, 'demo', [], { schedule: 'tiled' });
  const image = await photo();
  await restorer.restore(image, { steps: 1 });
  const [begun, before] = [performance.now(), process.cpuUsage()];
  await restorer.restore(image, { steps: STEPS, seed: 2 });
  const { user, system } = process.cpuUsage(before);
  const took = { seconds: (performance.now() - begun) / 1000, cpu: (user + system) / 1e6 };
  await restorer.close();
  return took;
}

async function inPage(): Promise<Took> {
  const driver = await PageDriver.open();
  const { page } = driver;
  const run = async (button: string, steps: number) => {
    await page.fill('#set-steps', String(steps));
    await page.press('#set-steps', 'Tab');
    await page.click(`.stage button:has-text("${button}")`);
    await page.waitForSelector('.stage button:has-text("Cancel")');
    await page.waitForSelector('.stage button:has-text("Download")');
  };
  await page.waitForSelector('text=/demo, 6/');
  await driver.drop([{ name: 'photo.png', type: 'image/png', bytes: encodePng(await photo()) }]);
  await run('Restore', 1);
  const [begun, before] = [performance.now(), descendantsCpu()];
  await run('Again', STEPS);
  const took = { seconds: (performance.now() - begun) / 1000, cpu: descendantsCpu() - before };
  await driver.close();
  return took;
}

/** Processor seconds of all processes below this one that are alive. (proc(5): fields 4, 14 and 15 of stat, in hundredths) */
function descendantsCpu(): number {
  const all = readdirSync('/proc').flatMap((pid) => {
    try {
      const fields = readFileSync(join('/proc', pid, 'stat'), 'utf8')
        .split(') ')[1]
        .split(' ');
      return [{ pid: Number(pid), parent: Number(fields[1]), seconds: (Number(fields[11]) + Number(fields[12])) / 100 }];
    } catch {
      return []; // no process, or one that has ended
    }
  });
  const below = new Set([process.pid]);
  for (let grown = true; grown; ) {
    const next = all.filter(({ pid, parent }) => below.has(parent) && !below.has(pid));
    for (const { pid } of next) below.add(pid);
    grown = next.length > 0;
  }
  return all.filter(({ pid }) => pid !== process.pid && below.has(pid)).reduce((sum, { seconds }) => sum + seconds, 0);
}

if (process.argv.includes('--node')) console.log(JSON.stringify(await inNode()));
else {
  const page = await inPage();
  const env = { ...process.env, VK_DRIVER_FILES: join(unpackSwiftShader(), 'vk_swiftshader_icd.json') };
  const lines = execFileSync('npx', ['tsx', fileURLToPath(import.meta.url), '--node'], { env, encoding: 'utf8' })
    .trim()
    .split('\n');
  const node = JSON.parse(lines[lines.length - 1]) as Took;
  console.log(`${SIDE}x${SIDE} pixels, ${STEPS} steps, SwiftShader, tiled schedule`);
  for (const [name, { seconds, cpu }] of Object.entries({ node, page }))
    console.log(`${name.padEnd(5)} ${seconds.toFixed(1).padStart(7)} s wall ${cpu.toFixed(1).padStart(7)} s processor`);
  console.log(`page / node: ${(page.seconds / node.seconds).toFixed(2)} wall, ${(page.cpu / node.cpu).toFixed(2)} processor`);
}
