/**
 * AMD's compiler on any machine: Mesa's RADV compiles for a GPU that is not there (layer.c). One child process for each GPU, because a driver
 * chooses its GPU when it is loaded.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A module with the entry point `main`, and the features of WebGPU that it needs. */
export interface GpuModule {
  wgsl: string;
  needs: readonly string[];
}

/** What the compiler says of one shader. */
export interface Compiled {
  /** Features that the GPU does not offer and the shader needs, after which it was not compiled. */
  lacking?: string;
  /** Lanes of a subgroup. */
  lanes: number;
  /** The compiler's statistics by its own names: 'VGPRs', 'Spilled VGPRs', 'LDS size' ... */
  numbers: Map<string, number>;
  /** The assembly listing. */
  assembly: string;
}

const INSTALL = `\`bench gpu\` needs a C compiler, Vulkan's headers and Mesa's RADV driver. On Debian and Ubuntu:
  apt-get install gcc libc6-dev libvulkan-dev mesa-vulkan-drivers
(Debian 12: mesa-vulkan-drivers from bookworm-backports). No GPU is needed.`;

/** Raised where the tools are not installed; the message says what to install. */
export class MissingTools extends Error {
  constructor(what: string) {
    super(`${what}\n${INSTALL}`);
  }
}

/** Compiles WGSL modules for one of RADV's GPUs such as 'navi31'. Throws MissingTools. */
export function compileFor(gpu: string, modules: readonly GpuModule[]): Compiled[] {
  const icd = radv();
  const layer = builtLayer();
  const folder = mkdtempSync(join(tmpdir(), 'bench-gpu-'));
  try {
    const report = join(folder, 'report');
    writeFileSync(report, '');
    const source = join(folder, 'modules.json');
    writeFileSync(source, JSON.stringify(modules));
    const { status, stderr } = spawnSync(process.execPath, [...process.execArgv, join(import.meta.dirname, 'compile.ts'), source, report], {
      encoding: 'utf8',
      env: {
        ...process.env,
        VK_DRIVER_FILES: icd,
        VK_ICD_FILENAMES: icd, // the same, for older loaders
        VK_LAYER_PATH: layer,
        VK_INSTANCE_LAYERS: LAYER,
        NODEVICE_SELECT: '1', // Mesa's own layer, which would look for a display
        RADV_FORCE_FAMILY: gpu,
        MESA_SHADER_CACHE_DISABLE: 'true', // cached shaders come without listings
        XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? folder,
        GPU_BENCH_REPORT: report,
      },
    });
    if (status !== 0) throw new Error(`Compiling for ${gpu} failed:\n${stderr.slice(-2000)}`);
    return parseReport(readFileSync(report), modules.length);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const LAYER = 'VK_LAYER_bench_gpu';
const ICDS = '/usr/share/vulkan/icd.d';

function radv(): string {
  const file = existsSync(ICDS) ? readdirSync(ICDS).find((name) => /^radeon_icd.*\.json$/.test(name)) : undefined;
  if (!file) throw new MissingTools(`RADV is not installed: no radeon_icd*.json in ${ICDS}.`);
  return join(ICDS, file);
}

/** The folder of the compiled layer and its manifest; compiled once for each version of layer.c. */
function builtLayer(): string {
  const source = join(import.meta.dirname, 'layer.c');
  const hash = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 16);
  const folder = join(tmpdir(), `bench-gpu-layer-${process.getuid?.() ?? 0}-${hash}`);
  const library = join(folder, 'layer.so');
  if (existsSync(library)) return folder;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const built = join(folder, `${process.pid}.so`);
  const { status, error, stderr } = spawnSync('gcc', ['-O1', '-shared', '-fPIC', '-fvisibility=hidden', source, '-o', built], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new MissingTools(`layer.c does not compile: ${error?.message ?? stderr.split('\n').slice(0, 3).join('\n')}`);
  const layer = { name: LAYER, type: 'GLOBAL', library_path: './layer.so', api_version: '1.3.0', implementation_version: '1' };
  writeFileSync(
    join(folder, 'layer.json'),
    JSON.stringify({ file_format_version: '1.2.0', layer: { ...layer, description: 'compiler reports' } }),
  );
  renameSync(built, library);
  return folder;
}

/** The report's format stands in layer.c; compile.ts adds `module <index>` before each module, `error <JSON string>` for a refused one and `lacking <features>` for one left out. */
function parseReport(bytes: Buffer, count: number): Compiled[] {
  const compiled: Compiled[] = [];
  let module = -1;
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf('\n', at);
    const [, kind, first, rest] = /^(\w+) (\S+) ?(.*)$/.exec(bytes.toString('utf8', at, end)) as RegExpExecArray;
    at = end + 1;
    if (kind === 'module') module = Number(first);
    else if (kind === 'error') throw new Error(JSON.parse(`${first} ${rest}`));
    else if (kind === 'lacking') compiled[module] = { lacking: first, lanes: 0, numbers: new Map(), assembly: '' };
    else if (kind === 'pipeline') compiled[module] = { lanes: Number(first), numbers: new Map(), assembly: '' };
    else if (kind === 'number') compiled[module].numbers.set(rest, Number(first));
    else {
      const text = bytes.toString('utf8', at, at + Number(first));
      at += Number(first) + 1;
      if (/assembly/i.test(rest)) compiled[module].assembly = text;
    }
  }
  for (let i = 0; i < count; i++)
    if (!compiled[i]?.assembly && !compiled[i]?.lacking) throw new MissingTools(`This RADV gave no assembly of module ${i}.`);
  return compiled;
}
