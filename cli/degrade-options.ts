/** How photos are damaged, as options of `degrade`, `train` and `evaluate`: each one value or a range. */
import { Option } from 'commander';
import { UserError } from '../core/errors.ts';
import { checkDegradation, type DegradationRanges, PAPER_DEGRADATION, type Range } from '../image/degrade.ts';
import { number } from './restore-options.ts';

const several = (text: string, before?: number[]) => [...(before ?? []), number(text)];

export type DegradationFlags = Partial<Record<'blur' | 'scale' | 'noise' | 'jpeg', number[]>>;

export function degradationOptions(): Option[] {
  const option = (flags: string, text: string) => new Option(flags, `damage: ${text}, one value or a range`).argParser(several);
  return [
    option('--blur <sigma...>', 'Gaussian blur in pixels'),
    option('--scale <factor...>', 'loss of resolution'),
    option('--noise <levels...>', 'noise, in levels of 255'),
    option('--jpeg <quality...>', 'JPEG quality'),
  ];
}

/** The paper's degradation unless the command line gives one. Throws UserError for more than two values, or values out of range. */
export function degradationOf({ blur, scale, noise, jpeg }: DegradationFlags): DegradationRanges {
  const given = Object.entries({ blur, scale, noise, jpeg }).flatMap(([key, values]): [string, Range][] => {
    if (!values) return [];
    if (values.length > 2) throw new UserError(`--${key} takes one value or two, not ${values.length}.`);
    return [[key, values.length === 1 ? values[0] : [Math.min(...values), Math.max(...values)]]];
  });
  const ranges: DegradationRanges = given.length > 0 ? Object.fromEntries(given) : PAPER_DEGRADATION;
  checkDegradation(ranges);
  return ranges;
}
