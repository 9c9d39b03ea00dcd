/**
 * One side of `npm run bench -- against`: runs the benchmark's cases, which are this checkout's, on the library of another, which is an argument, in a
 * process of its own. See checkout.ts.
 */
import { CASES, draw, errorAgainstF64 } from './cases.ts';
import { attachSynthetic, checkoutAt } from './checkout.ts';
import { median } from './median.ts';
import { ours } from './ours.ts';
import { denoiserInputs } from './unet.ts';
import { workClock } from './work-clock.ts';

/** A figure of one side, of one process: milliseconds of the CPU and by the clock, medians of its rounds. */
export interface SideResult {
  name: string;
  cpuMs: number;
  wallMs: number;
  /** Of operations: relative error against f64. */
  error?: number;
}

const [checkout, what, pattern = '', rounds = '3'] = process.argv.slice(2);
const { library, host, weights } = await checkoutAt(checkout);
const device = await library.openDevice({ gpu: await host.gpu(), settle: host.settle });
const clock = workClock(device, 'CPU');

/** Milliseconds of a round at least: what takes less runs several times in it, for the first runs of a process are slower. */
const ROUND = 200;

/** Times of a run, medians of `rounds` rounds after a first, in which drivers compile. */
async function timed(run: () => Promise<unknown>): Promise<Omit<SideResult, 'name'>> {
  await host.settle(run());
  const before = performance.now();
  await host.settle(run());
  const runs = Math.ceil(ROUND / (performance.now() - before));
  const times: { cpu: number; wall: number }[] = [];
  for (let round = 0; round < Number(rounds); round++) {
    const begun = performance.now();
    const cpu = await clock.time(async () => {
      for (let i = 0; i < runs; i++) await host.settle(run());
    });
    times.push({ cpu: cpu / runs, wall: (performance.now() - begun) / runs });
  }
  return { cpuMs: median(times.map(({ cpu }) => cpu)), wallMs: median(times.map(({ wall }) => wall)) };
}

const report = (result: SideResult) => console.log(JSON.stringify(result));

const sides: Record<string, () => Promise<void>> = {
  async ops() {
    for (const shape of CASES.filter(({ name }) => name.includes(pattern))) {
      const c = draw(shape);
      try {
        const runner = await host.settle(ours(device, library).prepare(c));
        const error = errorAgainstF64(c, await host.settle(runner.result()));
        report({ name: c.name, ...(await timed(() => runner.run())), error });
      } catch (error) {
        console.error(`${c.name}: ${(error as Error).message.split('\n')[0]}`);
      }
    }
  },
  async unet() {
    const config = library.SUPIR_SDXL;
    const supir = new library.Supir(config);
    attachSynthetic(supir.model, 'model.', weights);
    const latent = 32;
    const program = await library.compile(
      device,
      supir.denoiserGraph([1, latent, latent, config.unet.in_channels], config.text.context_length, 1),
    );
    const inputs = denoiserInputs(config, latent);
    await program.run(inputs);
    // As in the steps of a restoration: what changes seldom stays as it was given before. Older checkouts want all again.
    const seldom: ReadonlySet<string> = program.plan.seldom ?? new Set();
    const again = Object.fromEntries(Object.entries(inputs).filter(([name]) => !seldom.has(name)));
    report({ name: `UNet and control network, latent ${latent}`, ...(await timed(() => program.run(again))) });
  },
};
await sides[what]();
process.exit(0);
