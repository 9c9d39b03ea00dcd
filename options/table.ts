/** A table of options as Markdown, for the documentation. */
import type { Option, Schema } from './schema.ts';
import { spelled } from './spelling.ts';

/** One table a heading, in the headings' order: flag, what it takes, default, meaning. `level`: of the headings. */
export function optionTables(schema: Schema, groups: Readonly<Record<string, string>>, level = 3): string {
  const parts = Object.entries(groups).flatMap(([group, title]) => {
    const rows = Object.entries(schema).filter(([, option]) => option.group === group);
    if (rows.length === 0) return [];
    return [
      `${'#'.repeat(level)} ${title}\n`,
      '| option | takes | default | |\n|---|---|---|---|',
      ...rows.map(
        ([key, option]) => `| ${[nameOf(key, option), takes(option), defaultOf(option), meaning(option)].map(escaped).join(' | ')} |`,
      ),
      '',
    ];
  });
  return parts.join('\n');
}

function nameOf(key: string, option: Option): string {
  const no = option.kind === 'flag' && option.default === true ? 'no-' : '';
  return `\`--${no}${spelled(key, 'kebab')}\``;
}

function takes(option: Option): string {
  switch (option.kind) {
    case 'number':
      return `${option.whole ? 'integer' : 'number'}, ${between(option.least, option.most)}`;
    case 'choice':
      return option.choices.map((each) => `\`${each}\``).join(', ');
    case 'flag':
      return 'nothing';
    case 'size':
      return `width x height in pixels, ${between(option.least, option.most)} each`;
    case 'text':
      return option.of === 'text' ? 'text' : `text: ${option.of}`;
    case 'lines':
      return 'a file of lines';
    case 'texts':
      return `one or several ${option.of}`;
    case 'boxes':
      return 'x,y,width,height in pixels; several times';
    case 'numbers':
      return `${option.count ?? ''}${option.count ? ' ' : ''}numbers with commas, ${between(option.least, option.most)}`;
    case 'indices':
      return 'whole numbers, such as 0,3-5';
    case 'range':
      return `one number or two, ${between(option.least, option.most)}`;
    case 'names':
      return `several of ${option.choices.map((each) => `\`${each}\``).join(', ')}`;
  }
}

const between = (least: number, most: number): string => (most >= Number.MAX_SAFE_INTEGER ? `from ${least}` : `${least} to ${most}`);

function defaultOf({ kind, default: value, otherwise }: Option): string {
  if (otherwise !== undefined) return otherwise;
  if (value === null || value === '' || (Array.isArray(value) && value.length === 0)) return kind === 'text' ? 'none' : '';
  if (typeof value === 'boolean') return '';
  const text = Array.isArray(value) ? value.join(',') : String(value);
  return text.length > 60 ? `\`${text.slice(0, 60)}...\`` : `\`${text}\``;
}

function meaning({ help, off, more, aliases }: Option): string {
  const also = aliases?.length ? ` Also read: ${aliases.map((each) => `\`${spelled(each, 'snake')}\``).join(', ')}.` : '';
  const sentence = off ?? help;
  return `${sentence[0].toUpperCase()}${sentence.slice(1)}.${more ? ` ${more}` : ''}${also}`;
}

const escaped = (cell: string): string => cell.replaceAll('|', '\\|');
