/** `caption <photos...>`: asks a vision model what photos show, and writes its answers beside them, where `restore` and trainings read them. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { globSync } from 'tinyglobby';
import { factsOf, UserError } from '../core/errors.ts';
import { shown } from '../core/text.ts';
import { host } from '../host/node.ts';
import { PHOTO_NAME } from '../image/photo-names.ts';
import { onInterrupt } from './interrupt.ts';
import { words } from './messages.ts';
import { checkWritable, isFolder } from './output-path.ts';
import { PartialFailure } from './partial-failure.ts';
import { withoutEnding } from './photo-files.ts';
import { readPicture } from './picture-files.ts';
import { COMMAND } from './program.ts';
import { CAPTION_KEY, captionerOf, captionFlags } from './restore-options.ts';

const HELP = `
old.jpg gets old.txt. What is sent is the photo, reduced to at most 1024 pixels, and nothing else. A key, where the server wants one, is read from the
environment variable ${CAPTION_KEY}.

Examples:
  $ ${COMMAND} caption album --caption-url http://localhost:11434/v1 --caption-model qwen3-vl
  $ ${COMMAND} caption old.jpg --caption-url http://localhost:8080/v1 --caption-model any --overwrite

Exit codes: 0 done, 1 some photos of several failed, 2 bad input or option, 130 interrupted.`;

interface Flags {
  captionUrl: string;
  captionModel: string;
  captionTimeout: number;
  recursive?: boolean;
  overwrite?: boolean;
  json?: boolean;
}

export function captionCommand(): Command {
  const command = new Command('caption')
    .description('Asks a vision model what photos show, and writes its captions beside them.')
    .argument('<photos...>', 'PNG, JPEG or WebP files, folders, or patterns such as "album/*.jpg"');
  for (const option of captionFlags()) command.addOption(option);
  return command
    .option('--recursive', 'look into folders within folders')
    .option('--overwrite', 'ask again for photos that have a caption; without it they are left')
    .option('--json', 'print a line of JSON for every photo')
    .addHelpText('after', HELP)
    .action(captionPhotos);
}

/** Files that are named, or found in folders and by patterns, each once. */
function photosNamed(named: string[], recursive = false): string[] {
  const found = named.flatMap((name) => {
    if (isFolder(name)) return globSync(recursive ? '**/*' : '*', { cwd: name, onlyFiles: true }).map((file) => join(name, file));
    return existsSync(name) ? [name] : globSync(name, { onlyFiles: true });
  });
  const photos = [...new Set(found.filter((name) => PHOTO_NAME.test(name) || named.includes(name)))].sort();
  if (photos.length === 0)
    throw new UserError(
      `No PNG, JPEG or WebP photo was found in ${shown(named.join(', '))}.${recursive ? '' : ' --recursive looks into folders within folders.'}`,
    );
  return photos;
}

async function captionPhotos(named: string[], flags: Flags): Promise<void> {
  const captioner = captionerOf(flags);
  if (!captioner) throw new UserError('Name who is asked for captions: --caption-url and --caption-model.');
  const photos = photosNamed(named, flags.recursive);
  const files = new Map<string, string>();
  for (const photo of photos) {
    const file = `${withoutEnding(photo)}.txt`;
    const other = files.get(file);
    if (other !== undefined)
      throw new UserError(`${shown(other)} and ${shown(photo)} would both have the caption ${shown(file)}. Name one of them.`);
    files.set(file, photo);
    checkWritable(file);
  }
  const signal = onInterrupt(() => {}, 'captions that were written stay. The same command goes on.');
  const failures: string[] = [];
  let [written, left] = [0, 0];
  for (const [file, photo] of files) {
    if (existsSync(file) && !flags.overwrite) {
      left++;
      continue;
    }
    try {
      const caption = await captioner(await readPicture(photo), signal);
      await host.writeFileAtomic(file, new TextEncoder().encode(`${caption}\n`));
      written++;
      console.log(flags.json ? JSON.stringify({ input: photo, output: file, caption }) : `${shown(file)}: ${shown(caption, 400)}`);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof UserError) || files.size === 1) throw error;
      failures.push(photo);
      if (flags.json) console.log(JSON.stringify({ input: photo, output: file, error: error.message, ...factsOf(error) }));
      else process.stderr.write(`${shown(photo)}: ${words(error)}\n`);
    }
  }
  if (!flags.json && files.size > 1) console.log(`${written} captions written, ${left} were there, ${failures.length} failed`);
  if (failures.length)
    throw new PartialFailure(`${failures.length} of ${files.size} photos have no caption: ${shown(failures.join(', '), 400)}`);
}
