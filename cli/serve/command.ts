/** `serve`: the GPU of this machine for a page and for programs, over HTTP. */
import { randomBytes } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { ServerType } from '@hono/node-server';
import { Command, InvalidArgumentError, Option } from 'commander';
import { UserError } from '../../core/errors.ts';
import { host } from '../../host/node.ts';
import { lock } from '../../host/node-lock.ts';
import { decode } from '../../image/decode.ts';
import { SIZE_LIMITS } from '../../image/image.ts';
import type { LoraChoice } from '../../restore/restorer.ts';
import { Restorer } from '../../restore/restorer.ts';
import type { Kind } from '../../restore/stage.ts';
import type { WeightDType } from '../../weights/attach.ts';
import { onInterrupt } from '../interrupt.ts';
import { words } from '../messages.ts';
import { methodsNamed } from '../model-config.ts';
import { encodePicture } from '../picture-files.ts';
import { COMMAND } from '../program.ts';
import { lora, modelOption } from '../restore-options.ts';
import { memoryOption, weightsOption } from '../weights-input.ts';
import { type Access, isLoopback } from './access.ts';
import { JOB_LIMITS, Jobs, type Restoring } from './jobs.ts';

const EXAMPLES = `
Examples:
  $ ${COMMAND} serve
  $ ${COMMAND} serve --host 0.0.0.0 --port 8188 --model supir --memory 10
  $ curl --data-binary @old.jpg 'http://127.0.0.1:8188/api/jobs?name=old.jpg&upscale=2'
  $ curl -N http://127.0.0.1:8188/api/jobs/<id>/events
  $ curl -o new.png http://127.0.0.1:8188/api/jobs/<id>/result

The page is at /, the interface as OpenAPI at /openapi.json; /sdapi/v1/extra-single-image is for programs that speak to A1111's.
On another address than this machine's own a token is needed with every request: that in SUPIR_TOKEN, or one that is made and printed.
Photos and results lie in the state folder, and jobs go on after a restart. Nothing else is read or written for a client.`;

interface ServeFlags {
  port: number;
  host: string;
  model: string;
  method?: string;
  lora?: LoraChoice[];
  weights?: WeightDType;
  memory?: number;
  state: string;
  allowOrigin?: string[];
  allowHost?: string[];
  maxUpload: number;
  maxQueue: number;
  keep: number;
}

const whole = (least: number, most: number) => (text: string) => {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > most)
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  return value;
};

export function serveCommand(): Command {
  return new Command('serve')
    .description('Serves a page and an HTTP interface whose restorations this machine computes.')
    .addOption(new Option('--port <n>', 'where to listen; 0 takes any').argParser(whole(0, 65535)).default(8188))
    .option('--host <address>', 'where to listen; 0.0.0.0 for other machines too, with a token', '127.0.0.1')
    .addOption(modelOption())
    .option('--method <name>', 'how to restore (default: what the model folder is for)')
    .addOption(new Option('--lora <file:scale>', 'apply a LoRA; may be given several times').argParser(lora))
    .addOption(weightsOption())
    .addOption(memoryOption('chosen by the adapter and the machine'))
    .option('--state <folder>', 'keeps photos, results and the queue', '.supir-serve')
    .option('--allow-origin <origin...>', 'pages of other origins that may ask, such as https://photos.example')
    .option('--allow-host <name...>', 'further names by which this server may be called')
    .addOption(new Option('--max-upload <MB>', 'of a photo').argParser(whole(1, 10_000)).default(JOB_LIMITS.upload / 1e6))
    .addOption(new Option('--max-queue <n>', 'photos that may wait').argParser(whole(1, 100_000)).default(JOB_LIMITS.queue))
    .addOption(new Option('--keep <hours>', 'results that nobody removes').argParser(whole(1, 100_000)).default(JOB_LIMITS.keep))
    .addHelpText('after', EXAMPLES)
    .action(run);
}

/** A loaded model as what restores the photos of jobs. */
export function restoringWith(restorer: Restorer<Kind>): Restoring {
  return async (bytes, { name, options, format, quality, bits }, { signal, folder, progress, warning }) => {
    const allows = (size: { width: number; height: number }) => void restorer.forecast({ ...size, name }, options);
    const photo = await decode(bytes, name, { ...SIZE_LIMITS, allows });
    const result = await restorer.restore(photo, options, {
      name,
      signal,
      state: folder,
      warning,
      progress: ({ share, stage, secondsLeft }) => progress({ share, stage, secondsLeft }),
    });
    const made = await encodePicture(format, bits === 16 ? result.deep() : result.image, quality, result.recipe);
    await result.finished();
    const { width, height } = result.image;
    return { bytes: made, type: TYPES[format], width, height };
  };
}

const TYPES = { png: 'image/png', jpg: 'image/jpeg', webp: 'image/webp', tif: 'image/tiff', avif: 'image/avif' };

async function run(flags: ServeFlags): Promise<void> {
  const isLocal = isLoopback(flags.host);
  const token = process.env.SUPIR_TOKEN || (isLocal ? null : randomBytes(18).toString('base64url'));
  if (token !== null && token.length < 8) throw new UserError('SUPIR_TOKEN has less than 8 characters: take a longer one.');
  for (const origin of flags.allowOrigin ?? [])
    if (!URL.canParse(origin) || new URL(origin).origin !== origin)
      throw new UserError(`--allow-origin is ${origin}; it must be like https://photos.example, without a path.`);
  const access: Access = {
    token,
    hosts: [...(flags.allowHost ?? []), ...(isLocal ? [] : [flags.host, hostname(), `${hostname()}.local`])].map((name) =>
      name.toLowerCase(),
    ),
    origins: flags.allowOrigin ?? [],
  };
  const unlock = await lock(join(flags.state, 'lock'), `${flags.state} is used`);
  let restorer: Restorer<Kind> | null = null;
  try {
    restorer = await Restorer.load(host, flags.model, flags.lora, { weights: flags.weights, methods: methodsNamed(flags.method) });
    if (flags.memory !== undefined) restorer.memory = flags.memory * 1e9;
    const limits = { upload: flags.maxUpload * 1e6, queue: flags.maxQueue, keep: flags.keep };
    const { method, model, device } = restorer;
    const jobs = await Jobs.open(join(flags.state, 'jobs'), restoringWith(restorer), limits);
    const about = {
      model: model.config.name,
      method: method.name,
      adapter: device.facts.description || device.facts.device || device.facts.vendor,
    };
    const check = (options: Readonly<Record<string, unknown>>) => void method.choose(options, model.config);
    const { serveApp } = await import('./app.ts'); // other commands need not wait for the server's library
    const app = serveApp({ jobs, access, schema: method.options, about, check });
    const server = await listen(app.fetch, flags);
    const { port } = server.address() as AddressInfo;
    const shownHost = flags.host.includes(':') ? `[${flags.host}]` : flags.host;
    console.log(`${about.model} on ${about.adapter}`);
    console.log(`The page is at http://${shownHost}:${port}/${token === null ? '' : `#token=${token}`} (Ctrl-C ends it)`);
    const interruption = onInterrupt(() => {}, 'the queue is kept, and goes on when the server is started again.');
    await new Promise<void>((resolve) => interruption.addEventListener('abort', () => resolve()));
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    await jobs.close();
    if ('closeAllConnections' in server) server.closeAllConnections();
    await closed;
  } finally {
    await restorer?.close();
    await unlock();
  }
}

async function listen(fetch: (request: Request) => Response | Promise<Response>, { host, port }: ServeFlags): Promise<ServerType> {
  const { serve } = await import('@hono/node-server');
  return new Promise((resolve, reject) => {
    const server = serve({ fetch, hostname: host, port, serverOptions: { requestTimeout: 600_000, headersTimeout: 20_000 } }, () =>
      resolve(server),
    );
    server.on('error', (cause: NodeJS.ErrnoException) => {
      const why = {
        EADDRINUSE: `port ${port} is taken: give another with --port`,
        EADDRNOTAVAIL: 'this machine has no such address',
        EACCES: 'ports below 1024 need rights',
      };
      reject(new UserError(`Cannot listen at ${host}:${port}: ${why[cause.code as keyof typeof why] ?? words(cause)}.`, { cause }));
    });
  });
}
