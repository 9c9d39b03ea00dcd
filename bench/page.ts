/**
 * The demo in the page: `npx tsx bench/page.ts` measures a second, small restoration beside the same one in Node, both on SwiftShader; with a checkout's
 * folder as an argument the first picture of that checkout's page, from its opening in a new browser on, as JSON (see against.ts). Chromium's processes
 * are all counted.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { host } from '../host/node.ts';
import { crop } from '../image/compose.ts';
import { decode } from '../image/decode.ts';
import { encodePng } from '../image/encode.ts';
import type { Image } from '../image/image.ts';
import { Restorer } from '../restore/restorer.ts';
import { unpackSwiftShader } from '../scripts/chromium-pack.ts';
import type { Site } from '../scripts/web-site.ts';
import { PageDriver } from '../test/web/page-driver.ts';

interface Took {
  seconds: number;
  cpu: number;
}

const STEPS = 5;
const SIDE = 64;
const PHOTO = 'demo/photos/astronaut-noisy.jpg';

async function photo(): Promise<Image> {
  return crop(await decode(await host.readFile(PHOTO), 'astronaut'), 88, 24, SIDE, SIDE);
}

async function inNode(): Promise<Took> {
  const restorer = await Restorer.load(host, 'demo');
  const image = await photo();
  await restorer.restore(image, { steps: 1 });
  const [begun, before] = [performance.now(), process.cpuUsage()];
  await restorer.restore(image, { steps: STEPS, seed: 2 });
  const { user, system } = process.cpuUsage(before);
  const took = { seconds: (performance.now() - begun) / 1000, cpu: (user + system) / 1e6 };
  await restorer.close();
  return took;
}

/** Presses `button`, and waits for the picture. */
async function restoreIn({ page }: PageDriver, button: string): Promise<void> {
  await page.click(`.stage button:has-text("${button}")`);
  await page.waitForSelector('.stage button:has-text("Cancel")');
  await page.waitForSelector('.stage button:has-text("Download")');
}

async function inPage(): Promise<Took> {
  const driver = await PageDriver.open({ schedule: 'auto' });
  await driver.page.waitForSelector('text=/demo, 6/');
  await driver.drop([{ name: 'photo.png', type: 'image/png', bytes: encodePng(await photo()) }]);
  await driver.set('steps', '1');
  await restoreIn(driver, 'Restore');
  await driver.set('steps', String(STEPS));
  const [begun, before] = [performance.now(), descendantsCpu()];
  await restoreIn(driver, 'Again');
  const took = { seconds: (performance.now() - begun) / 1000, cpu: descendantsCpu() - before };
  await driver.close();
  return took;
}

/** The first picture of a checkout's page with the settings that the page has, from its opening on. `model`: the checkout whose demo model it shows. */
async function firstPicture(checkout: string, model: string): Promise<Took> {
  const { buildSite }: { buildSite(): Promise<Site> } = await import(pathToFileURL(join(checkout, 'scripts/web-site.ts')).href);
  const site = await buildSite();
  for (const path of site.keys()) if (/^demo.*(json|safetensors)$/.test(path)) site.set(path, readFileSync(join(model, path)));
  const driver = await PageDriver.open({ site, schedule: 'auto' });
  await driver.page.waitForSelector('text=/demo, 6/');
  await driver.drop([{ name: 'photo.jpg', type: 'image/jpeg', bytes: await host.readFile(PHOTO) }]);
  await restoreIn(driver, 'Restore');
  const took = { seconds: (await driver.page.evaluate(() => performance.now())) / 1000, cpu: descendantsCpu() };
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

const [checkout, model] = process.argv.slice(2);
if (checkout === '--node') console.log(JSON.stringify(await inNode()));
else if (checkout) {
  const { seconds, cpu } = await firstPicture(checkout, model);
  const name = 'first picture of the page, SwiftShader, 256 x 256';
  console.log(JSON.stringify({ name, cpuMs: 1000 * cpu, wallMs: 1000 * seconds }));
  process.exit(0);
} else {
  const page = await inPage();
  const env = { ...process.env, VK_DRIVER_FILES: join(unpackSwiftShader(), 'vk_swiftshader_icd.json') };
  const lines = execFileSync('npx', ['tsx', fileURLToPath(import.meta.url), '--node'], { env, encoding: 'utf8' })
    .trim()
    .split('\n');
  const node = JSON.parse(lines[lines.length - 1]) as Took;
  console.log(`${SIDE}x${SIDE} pixels, ${STEPS} steps, SwiftShader`);
  for (const [name, { seconds, cpu }] of Object.entries({ node, page }))
    console.log(`${name.padEnd(5)} ${seconds.toFixed(1).padStart(7)} s wall ${cpu.toFixed(1).padStart(7)} s processor`);
  console.log(`page / node: ${(page.seconds / node.seconds).toFixed(2)} wall, ${(page.cpu / node.cpu).toFixed(2)} processor`);
}
