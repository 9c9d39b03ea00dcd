/** `plan`: what each sampling step will be asked for, before anything is computed: noise levels, guidance and control scales. */
import { Command } from 'commander';
import { UserError } from '../core/errors.ts';
import { host } from '../host/node.ts';
import type { PlannedStep } from '../sampler/planned.ts';
import { modelOr } from './model-config.ts';
import { checkOutput } from './photo-files.ts';
import { COMMAND } from './program.ts';
import { checkKnown, type GivenAny, givenBy, methodOption, modelOption, presetHelp, samplingFlags } from './restore-options.ts';
import { type Panel, stepChart } from './step-chart.ts';

const EXAMPLES = `
Examples:
  $ ${COMMAND} plan --steps 20 --cfg 7.5 --cfg-start 4
  $ ${COMMAND} plan --preset quality --control-linear --control-start 0.5 --plot schedule.svg
  $ ${COMMAND} plan --method diffbir --sampler spaced --steps 50 --rescale-cfg`;

interface Flags {
  model: string;
  method?: string;
  plot?: string;
  json?: boolean;
}

export function planCommand(): Command {
  const command = new Command('plan')
    .description('Shows noise, guidance and control scale of every sampling step.')
    .addOption(modelOption())
    .addOption(methodOption('whose steps; without --model those of its published model'));
  for (const option of samplingFlags()) command.addOption(option);
  return command
    .option('--plot <file.svg>', 'draw them')
    .option('--json', 'print a JSON object')
    .addHelpText('after', presetHelp)
    .addHelpText('after', EXAMPLES)
    .action((flags: Flags, command: Command) => run(flags, givenBy(command), command.getOptionValueSource('model') === 'default'));
}

async function run(flags: Flags, given: GivenAny, isAnyModel: boolean): Promise<void> {
  if (flags.plot !== undefined) checkOutput(flags.plot, ['.svg']);
  const { method, config } = await modelOr(isAnyModel ? undefined : flags.model, flags.method, flags.model);
  checkKnown(method, given);
  const options = method.choose(given, config);
  const steps = await method.steps(options, config);
  if (steps.length === 0) throw new UserError(`There are no steps to plan: the method ${method.name} samples nothing.`);
  const { sampler = method.name } = options as { sampler?: string };
  if (flags.plot !== undefined) await host.writeFileAtomic(flags.plot, new TextEncoder().encode(schedulePlot(sampler, steps)));
  if (flags.json) console.log(JSON.stringify({ sampler, steps, ...(flags.plot === undefined ? {} : { plot: flags.plot }) }));
  else console.log(table(steps));
  if (flags.plot !== undefined && !flags.json) console.log(`Drawn in ${flags.plot}`);
}

/** The plan as an SVG file of three panels over the steps; light or dark as the reader's system is. */
export function schedulePlot(sampler: string, steps: PlannedStep[]): string {
  const of = (key: 'sigma' | 'sigmaHat' | 'cfg' | 'controlScale') => steps.map((step) => step[key]);
  const panels: Panel[] = [
    {
      title: 'Noise (sigma, logarithmic)',
      logarithmic: true,
      lines: [
        { name: 'before the step', values: of('sigma') },
        { name: 'with churn', values: of('sigmaHat'), dashed: true },
      ],
    },
    { title: 'Guidance scale', lines: [{ name: 'guidance', values: of('cfg') }] },
    { title: 'Control scale', lines: [{ name: 'control', values: of('controlScale') }] },
  ];
  if (steps.some(({ reuse }) => reuse))
    panels.push({
      title: 'Networks: whole 1, deep features taken over 0',
      lines: [{ name: 'whole', values: steps.map(({ reuse }) => (reuse ? 0 : 1)) }],
    });
  return stepChart(`Schedule of the ${sampler} sampler, ${steps.length} ${steps.length === 1 ? 'step' : 'steps'}`, panels);
}

function table(steps: PlannedStep[]): string {
  const cached = steps.some(({ reuse }) => reuse);
  const rows = steps.map(({ step, sigma, sigmaHat, cfg, controlScale, reuse }) => {
    const numbers = [sigma, sigmaHat, cfg, controlScale].map((value) => value.toFixed(4).padStart(10));
    return [String(step).padStart(4), ...numbers, ...(cached ? [reuse ? '  reused' : '   whole'] : [])].join(' ');
  });
  return [`step      sigma with churn   guidance    control${cached ? ' networks' : ''}`, ...rows].join('\n');
}
