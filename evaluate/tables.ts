/** What an evaluation found, as Markdown tables and CSV. */
import { UserError } from '../core/errors.ts';
import { MEASURES, type Measure, type Row } from './evaluate.ts';
import { type Estimate, estimate } from './statistics.ts';

/** A heading, and how its numbers are printed. The paper's arrows say which way is better; sharpness is best at 1, noise at the truth's. */
const COLUMNS: Record<Measure, { title: string; digits: number }> = {
  psnr: { title: 'PSNR ↑', digits: 2 },
  psnrY: { title: 'PSNR Y ↑', digits: 2 },
  ssim: { title: 'SSIM ↑', digits: 4 },
  msSsim: { title: 'MS-SSIM ↑', digits: 4 },
  gmsd: { title: 'GMSD ↓', digits: 4 },
  lpips: { title: 'LPIPS ↓', digits: 4 },
  sharpness: { title: 'sharpness', digits: 2 },
  noise: { title: 'noise', digits: 2 },
  seconds: { title: 's / photo ↓', digits: 2 },
  gpuMb: { title: 'GPU MB ↓', digits: 0 },
};

export interface Summary {
  /** The photos it is about. */
  group: string;
  photos: string[];
  methods: {
    method: string;
    mean: Partial<Record<Measure, Estimate>>;
    /** The method minus the baseline, photo by photo; null for the baseline itself. */
    difference: Partial<Record<Measure, Estimate>> | null;
  }[];
}

/**
 * Means, and paired differences to the baseline, over those photos for which there are all results; for all photos, then for each group.
 * Throws UserError for a baseline that is no method, and groups of unknown photos.
 */
export function summarize(rows: readonly Row[], baseline: string, groups: Readonly<Record<string, readonly string[]>> = {}): Summary[] {
  const methods = [...new Set(rows.map(({ method }) => method))];
  if (rows.length > 0 && !methods.includes(baseline))
    throw new UserError(`There is no method '${baseline}' to compare with; there are: ${methods.join(', ')}.`);
  const find = (method: string, photo: string) => rows.find((row) => row.method === method && row.photo === photo);
  const all = [...new Set(rows.map(({ photo }) => photo))];
  for (const [name, photos] of Object.entries(groups)) {
    const unknown = photos.filter((photo) => !all.includes(photo));
    if (unknown.length > 0) throw new UserError(`The group '${name}' names photos that are not there: ${unknown.join(', ')}.`);
  }
  const complete = all.filter((photo) => methods.every((method) => find(method, photo)));
  return Object.entries({ 'all photos': all, ...groups }).flatMap(([group, named]) => {
    const photos = named.filter((photo) => complete.includes(photo));
    if (photos.length === 0) return [];
    return [{ group, photos, methods: methods.map((method) => compared(method, photos)) }];
  });

  function compared(method: string, photos: readonly string[]): Summary['methods'][number] {
    const values = (of: string, measure: Measure) => photos.map((photo) => find(of, photo)![measure] ?? null);
    const each = (list: (measure: Measure) => (number | null)[]) =>
      Object.fromEntries(
        MEASURES.flatMap((measure) => {
          const numbers = list(measure);
          return numbers.every((value) => value !== null) ? [[measure, estimate(numbers as number[])]] : [];
        }),
      );
    const mean = each((measure) => values(method, measure));
    if (method === baseline) return { method, mean, difference: null };
    const difference = each((measure) => {
      const [own, other] = [values(method, measure), values(baseline, measure)];
      return own.map((value, i) => (value === null || other[i] === null ? null : value - other[i]));
    });
    return { method, mean, difference };
  }
}

/** Tables of means and of differences for every group, and of every photo. */
export function markdown(rows: readonly Row[], summaries: readonly Summary[], baseline: string): string {
  const lines: string[] = [];
  for (const { group, photos, methods } of summaries) {
    const measures = MEASURES.filter((measure) => methods.some(({ mean }) => mean[measure]));
    const heads = measures.map((measure) => COLUMNS[measure].title);
    lines.push(`### ${group} (${photos.length}${photos.length < 12 ? `: ${photos.join(', ')}` : ''})`, '');
    lines.push(
      ...table(
        ['method', ...heads],
        methods.map(({ method, mean }) => [method, ...measures.map((key) => (mean[key] ? show(mean[key].mean, key) : ''))]),
      ),
    );
    const others = methods.filter(({ difference }) => difference);
    if (others.length === 0) continue;
    lines.push(`Difference to ${baseline}, photo by photo: mean ± 95% confidence interval`, '');
    const cell = (found: Estimate | undefined, key: Measure) =>
      found ? `${found.mean < 0 ? '' : '+'}${show(found.mean, key)} ± ${found.margin === null ? 'unknown' : show(found.margin, key)}` : '';
    lines.push(
      ...table(
        ['method', ...heads],
        others.map(({ method, difference }) => [method, ...measures.map((key) => cell(difference![key], key))]),
      ),
    );
  }
  const methods = [...new Set(rows.map(({ method }) => method))];
  const photos = [...new Set(rows.map(({ photo }) => photo))];
  lines.push('### Every photo: PSNR / SSIM', '');
  const cells = (photo: string) =>
    methods.map((method) => {
      const row = rows.find((each) => each.method === method && each.photo === photo);
      return row ? `${show(row.psnr, 'psnr')} / ${row.ssim.toFixed(3)}` : '';
    });
  lines.push(
    ...table(
      ['photo', ...methods],
      photos.map((photo) => [photo, ...cells(photo)]),
    ),
  );
  return lines.join('\n');
}

/** A line a picture. */
export function csv(rows: readonly Row[]): string {
  const quoted = (text: string) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = rows.map((row) => [quoted(row.method), quoted(row.photo), ...MEASURES.map((key) => row[key] ?? '')].join(','));
  return `${[['method', 'photo', ...MEASURES].join(','), ...lines].join('\n')}\n`;
}

const show = (value: number, measure: Measure) => value.toFixed(COLUMNS[measure].digits);

function table(head: string[], body: string[][]): string[] {
  const line = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...body.map(line), ''];
}
