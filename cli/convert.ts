/** `convert <in...> -o <out>`: weights of any layout and dtype as safetensors, written front to back, whole or not at all. */
import { mkdir, open, rename, rm, statfs } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { Command, Option } from 'commander';
import { UserError } from '../core/errors.ts';
import { checkNotRead, fileError } from '../host/node-files.ts';
import { lock } from '../host/node-lock.ts';
import { besidePath } from '../host/node-temporary.ts';
import { diffBirFile } from '../restore/diffbir-files.ts';
import { size } from '../restore/inspection.ts';
import { METHODS } from '../restore/methods.ts';
import { Checkpoint } from '../weights/checkpoint.ts';
import { type Conversion, type ConvertedDType, convert } from '../weights/convert.ts';
import { clipRules, openClipRules, unetRules, vaeRules } from '../weights/diffusers.ts';
import { byteLength } from '../weights/dtype.ts';
import { COMPONENTS, componentOf } from '../weights/layouts.ts';
import { checkUsable, recognize } from '../weights/recognize.ts';
import { elementCount, OverflowError, type TensorFile } from '../weights/tensor-file.ts';
import { type Rule, toOther } from '../weights/translate.ts';
import { checkWritable } from './output-path.ts';
import { COMMAND } from './program.ts';
import { openInputs } from './weights-input.ts';

const EXAMPLES = `
Examples:
  $ ${COMMAND} convert SUPIR-v0Q.ckpt -o SUPIR-v0Q_fp16.safetensors
  $ ${COMMAND} convert sd_xl_base_1.0_0.9vae.safetensors -o sd_xl_base_q4.safetensors --to q4
  $ ${COMMAND} convert models/juggernaut-diffusers -o juggernaut.safetensors
  $ ${COMMAND} convert juggernaut.safetensors -o juggernaut-diffusers --layout diffusers
  $ ${COMMAND} convert diffbir -o diffbir-q8/model.safetensors --to q8

An interrupted conversion is continued by the same command; until it is done, its part lies beside the target as <name>.part, with a lock that
keeps other conversions to that name out.`;

interface Flags {
  output: string;
  to: 'f16' | 'bf16' | 'f32' | 'q8' | 'q4';
  layout: 'single' | 'diffusers';
  quiet?: boolean;
}

export function convertCommand(): Command {
  return new Command('convert')
    .description('Converts weights to safetensors of another dtype or layout.')
    .argument('<in...>', 'files, folders or web addresses, joined in this order: where two hold the same tensor, the later counts')
    .requiredOption('-o, --output <file>', 'file to write; with --layout diffusers, a folder')
    .addOption(
      new Option(
        '--to <dtype>',
        'how real numbers are stored; q8 and q4: matrices and convolutions in blocks of 8 and 4 bits, all else f16',
      )
        .choices(['f16', 'bf16', 'f32', 'q8', 'q4'])
        .default('f16'),
    )
    .addOption(
      new Option('--layout <name>', 'one file, or a folder with one for every component')
        .choices(['single', 'diffusers'])
        .default('single'),
    )
    .option('--quiet', 'no progress')
    .addHelpText('after', EXAMPLES)
    .action((inputs: string[], flags: Flags) => convertFiles(inputs, flags));
}

async function convertFiles(inputs: string[], { output, to, layout, quiet }: Flags): Promise<void> {
  if (layout === 'diffusers' && (to === 'q8' || to === 'q4'))
    throw new UserError(
      `${to} is a form of this program's own, which diffusers does not read: leave --layout out, or choose f16, bf16 or f32.`,
    );
  const files = await openInputs(inputs);
  try {
    const source = joinInputs(files, to === 'q8' || to === 'q4');
    const targets = layout === 'single' ? [{ path: output, file: source }] : diffusersFiles(source, output);
    for (const { path } of targets) {
      checkWritable(path);
      await checkNotRead(path);
    }
    for (const { path, file } of targets) {
      const conversion = await convert(file, to.toUpperCase() as ConvertedDType);
      const show = quiet || !process.stderr.isTTY ? () => {} : (done: number) => status(path, done, conversion.plan.size);
      await write(path, conversion, show);
      if (!quiet) console.log(`${path}: ${conversion.plan.tensors.length} tensors, ${size(conversion.plan.size)}`);
    }
  } finally {
    for (const file of files) await file.close?.();
  }
}

/** The inputs under a single file's names. A lone file that is no part of a model keeps its names, and is not rounded to blocks. */
function joinInputs(files: readonly TensorFile[], isRounded: boolean): TensorFile {
  for (const method of METHODS) {
    const joined = method.joined(files);
    if (joined) return joined;
  }
  if (files.length > 1 || isRounded) for (const file of files) checkUsable(file, recognize(file));
  return new Checkpoint(files);
}

/** The text tower of Stable Diffusion 2. */
const SD2_TEXT = 'cond_stage_model.model';

function diffusersFiles(source: TensorFile, folder: string): { path: string; file: TensorFile }[] {
  const names = source.names();
  const layouts: [string, Rule[]][] = [
    ['unet/diffusion_pytorch_model', unetRules(names)],
    ['vae/diffusion_pytorch_model', vaeRules(names)],
    ['text_encoder/model', names.some((name) => name.startsWith(SD2_TEXT)) ? openClipRules(names, SD2_TEXT) : clipRules()],
    ['text_encoder_2/model', openClipRules(names)],
  ];
  const parts = new Set(names.map(componentOf));
  const supir = [...parts].filter((part) => part && COMPONENTS[part].origin === 'SUPIR');
  const { control, cleaner } = diffBirFile(source);
  if (control || cleaner)
    throw new UserError(
      `${source.name}: diffusers has no place for IRControlNet and cleaners. Convert the base alone, or use --layout single.`,
    );
  if (supir.length > 0)
    throw new UserError(
      `${source.name}: diffusers has no place for SUPIR's own weights. Convert the SDXL checkpoint alone, or use --layout single.`,
    );
  const targets = layouts.map(([path, rules]) => ({ path: join(folder, `${path}.safetensors`), file: toOther(source, rules) }));
  const kept = targets.reduce((sum, { file }) => sum + elements(file, file.names()), 0);
  if (kept < elements(source, names.filter(componentOf)))
    throw new UserError(`${source.name}: some of its tensors have no names in diffusers. Use --layout single.`);
  return targets.filter(({ file }) => file.names().length > 0);
}

const elements = (file: TensorFile, names: readonly string[]): number =>
  names.reduce((sum, name) => sum + elementCount(file.info(name).shape), 0);

/** Writes a file beside its target and renames it when it is whole; continues one that was begun with the same header. One process at a time. */
async function write(path: string, conversion: Conversion, show: (done: number) => void): Promise<void> {
  const unlock = await lock(besidePath(path, '.lock'), `${path} is being written`);
  try {
    await writeAlone(path, conversion, show);
  } finally {
    await unlock();
  }
}

async function writeAlone(path: string, { plan, tensor }: Conversion, show: (done: number) => void): Promise<void> {
  const part = besidePath(path, '.part');
  const file = await mkdir(dirname(resolve(path)), { recursive: true })
    .then(() => open(part, 'a+'))
    .catch((cause) => {
      throw fileError('write', part, cause);
    });
  try {
    const { size: begun } = await file.stat();
    let { index, at } = await resumeFrom(file, begun, plan);
    await file.truncate(at);
    const { bavail, bsize } = await statfs(dirname(resolve(path)));
    if (plan.size - at > bavail * bsize)
      throw new UserError(
        `${path} takes ${size(plan.size - at)}, and the disk has ${size(bavail * bsize)} left. Free some, or write to another.`,
      );
    const append = async (bytes: Uint8Array) => {
      await file.appendFile(bytes);
      at += bytes.length;
    };
    if (at === 0) await append(plan.header);
    for (; index < plan.tensors.length; index++) {
      for await (const bytes of tensor(index)) await append(bytes);
      show(at);
    }
    await file.sync();
    const { size: written } = await file.stat();
    if (written !== plan.size) {
      await rm(part, { force: true });
      throw new UserError(`${part} has ${written} bytes, and ${plan.size} were to be written: something else wrote to it. Run it again.`);
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOSPC')
      throw new UserError(
        `Cannot write ${path}: the disk is full. Free some space and run the command again; it continues where it stopped.`,
        { cause },
      );
    if (cause instanceof OverflowError) await rm(part, { force: true }); // no other run could go on from it
    throw cause;
  } finally {
    await file.close();
  }
  await rename(part, path).catch((cause) => {
    throw fileError('write', path, cause);
  });
}

/** The first tensor that is still to be written, and where it goes. A part with another header is begun again. */
async function resumeFrom(
  file: Awaited<ReturnType<typeof open>>,
  begun: number,
  { header, tensors, size: whole }: Conversion['plan'],
): Promise<{ index: number; at: number }> {
  const start = new Uint8Array(header.length);
  const { bytesRead } = await file.read(start, 0, header.length, 0);
  if (bytesRead < header.length || begun > whole || !start.every((byte, i) => byte === header[i])) return { index: 0, at: 0 };
  let at = header.length;
  let index = 0;
  for (const { dtype, shape } of tensors) {
    const end = at + byteLength(dtype, elementCount(shape));
    if (end > begun) break;
    at = end;
    index++;
  }
  return { index, at };
}

function status(path: string, done: number, total: number): void {
  process.stderr.write(`\r${path}: ${size(done)} of ${size(total)} `);
  if (done === total) process.stderr.write('\n');
}
