/** `report merge <logs...>`: the logs of several processes as one, and what is missing. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { UserError } from '../core/errors.ts';
import { isRecord } from '../core/json.ts';
import { shown } from '../core/text.ts';
import { host } from '../host/node.ts';
import { fileError } from '../host/node-files.ts';
import { PartialFailure } from './partial-failure.ts';
import { findPhotos } from './photo-files.ts';
import { COMMAND } from './program.ts';

const EXAMPLES = `
Examples:
  $ ${COMMAND} report merge logs/*.jsonl -o restored.jsonl
  $ ${COMMAND} report merge logs/*.jsonl --photos album --recursive
  $ ${COMMAND} report merge logs/*.jsonl --photos album --json

Logs are those of restore --log. Of a photo that is in several lines the last restoration counts, and a failure only where there is no restoration.
Exit codes: 0 all restored, 1 some failed or are missing, 2 bad input.`;

/** A line of a log: a restoration, or a failure with its error. */
export interface LogLine {
  input: string;
  output: string;
  /** Path within the album; logs of earlier versions have none. */
  photo?: string;
  error?: string;
  [more: string]: unknown;
}

export interface MergedReport {
  restored: number;
  /** Photos that were restored more than once. */
  twice: string[];
  failed: { photo: string; error: string }[];
  /** Photos of the album of which no log tells. */
  missing: string[];
  /** Lines that cannot be read: a process was killed while it wrote them. */
  damaged: number;
  /** Sum over all restorations. */
  seconds: number;
  /** A line for every photo. */
  lines: LogLine[];
}

/** Joins the lines of logs, those of each file in its order. `photos`: the album's, by their paths within it. */
export function mergeLogs(logs: readonly string[], photos: readonly string[] = []): MergedReport {
  const restored = new Map<string, { photo: string; line: LogLine; times: number }>();
  const failures = new Map<string, LogLine>();
  let [damaged, seconds] = [0, 0];
  for (const text of logs.flatMap((log) => log.split('\n')).filter((text) => text.trim() !== '')) {
    const line = parseLine(text);
    const photo = line?.photo ?? line?.input;
    if (!line || photo === undefined) damaged++;
    else if (line.error !== undefined) failures.set(photo, line);
    else {
      const result = `${photo}\n${line.output}`; // of one photo there may be several, by --num-samples
      restored.set(result, { photo, line, times: 1 + (restored.get(result)?.times ?? 0) });
      seconds += Number(line.seconds) || 0;
    }
  }
  const results = [...restored.values()];
  const done = new Set(results.map(({ photo }) => photo));
  const failed = [...failures].filter(([photo]) => !done.has(photo));
  const lines = [...results.map(({ photo, line }) => [photo, line] as const), ...failed].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    restored: done.size,
    twice: results.filter(({ times }) => times > 1).map(({ photo }) => photo),
    failed: failed.map(([photo, { error = '' }]) => ({ photo, error })),
    missing: photos.filter((photo) => !done.has(photo) && !failures.has(photo)),
    damaged,
    seconds,
    lines: lines.map(([, line]) => line),
  };
}

function parseLine(text: string): LogLine | null {
  try {
    const line: unknown = JSON.parse(text);
    return isRecord(line) && typeof line.input === 'string' && typeof line.output === 'string' ? (line as LogLine) : null;
  } catch {
    return null;
  }
}

interface MergeFlags {
  output?: string;
  photos?: string[];
  recursive?: boolean;
  json?: boolean;
}

export function reportCommand(): Command {
  const merge = new Command('merge')
    .description('Joins logs, and tells what failed and what is missing.')
    .argument('<logs...>', 'files of restore --log')
    .option('--photos <album...>', 'the photos that were to be restored: files, folders or patterns, as for restore')
    .option('--recursive', 'look into folders within folders')
    .option('-o, --output <file>', 'write a line of JSON for every photo there')
    .option('--json', 'print what is told as JSON')
    .addHelpText('after', EXAMPLES)
    .action(mergeAction);
  return new Command('report').description('Reads what restore --log has written.').addCommand(merge).addHelpText('after', EXAMPLES);
}

async function mergeAction(logs: string[], flags: MergeFlags): Promise<void> {
  const read = (path: string) => {
    try {
      return readFileSync(path, 'utf8');
    } catch (cause) {
      throw fileError('read the log', path, cause);
    }
  };
  const photos = flags.photos ? findPhotos(flags.photos, flags.recursive ?? false).map(({ key }) => key) : [];
  if (flags.photos && photos.length === 0) throw new UserError(`No photo was found in ${shown(flags.photos.join(', '))}.`);
  const { lines, ...merged } = mergeLogs(logs.map(read), photos);
  if (flags.output !== undefined)
    await host.writeFileAtomic(flags.output, new TextEncoder().encode(lines.map((line) => `${JSON.stringify(line)}\n`).join('')));
  if (flags.json) console.log(JSON.stringify(merged));
  else {
    for (const { photo, error } of merged.failed) console.log(`failed: ${shown(photo)}: ${shown(error, 400)}`);
    for (const photo of merged.missing) console.log(`missing: ${shown(photo)}`);
    for (const photo of merged.twice) console.log(`restored more than once: ${shown(photo)}`);
    if (merged.damaged > 0) console.log(`${merged.damaged} lines cannot be read: processes were killed while they wrote them`);
    console.log(`${merged.restored} restored, ${merged.failed.length} failed${flags.photos ? `, ${merged.missing.length} missing` : ''}`);
  }
  const bad = merged.failed.length + merged.missing.length;
  if (bad > 0) throw new PartialFailure(`${bad} photos are not restored. The same commands with --skip-existing go on with them.`);
}
