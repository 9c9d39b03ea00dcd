/** Progress on standard error: a bar over all of the work with the time left on a terminal, a line a stage or part elsewhere. Silent with --quiet and --json. */
import type { SingleBar } from 'cli-progress';
import type { Progress } from '../restore/progress.ts';

/** What a stage does, and what its parts are. Stages that are not here have their names. */
const STAGES: Readonly<Record<string, readonly [what: string, part: string]>> = {
  compile: ['compiling shaders', ''],
  clean: ['cleaning', 'tile'],
  encode: ['reading the picture', 'tile'],
  stage1: ['decoding the stage-1 image', 'tile'],
  reencode: ['encoding the stage-1 image', 'tile'],
  photo: ['encoding the photo', 'tile'],
  text: ['reading the prompts', 'text'],
  sample: ['sampling', 'step'],
  decode: ['decoding the result', 'tile'],
};

export interface ShownProgress {
  progress(progress: Progress): Promise<void>;
  /** Removes the bar; call it before writing anything else, also after an error. */
  stop(): void;
}

export function progress(title: string): ShownProgress {
  const terminal = process.stderr.isTTY === true;
  let bar: SingleBar | null = null;
  let shown = '';
  return {
    stop() {
      bar?.stop();
      bar = null;
    },
    async progress(now) {
      if (!bar && terminal) {
        const { Presets, SingleBar } = await import('cli-progress');
        bar = new SingleBar(
          // no gracefulExit: it would take signals away from the command, which ends the work by itself
          { format: `${title} [{bar}] {what}`, clearOnComplete: true, gracefulExit: false, stream: process.stderr },
          Presets.legacy,
        );
        bar.start(1, 0, { what: '' });
      }
      const left = now.secondsLeft === null || now.share === 1 ? '' : `, ${duration(now.secondsLeft * 1000)} left`;
      const what = inWords(now);
      bar?.update(now.share, { what: what + left });
      // Without a bar compiling is told once, not shader by shader.
      const isNews = what !== shown && (now.stage !== 'compile' || now.done === 0);
      if (!bar && isNews) process.stderr.write(`${title}: ${what}${left}\n`);
      shown = what;
    },
  };
}

function inWords({ piece, stage, done, total }: Progress): string {
  const [which, [what, part]] = [piece === undefined ? '' : `${piece}: `, STAGES[stage] ?? [stage, '']];
  return which + (total > 1 && (done > 0 || stage === 'compile') ? `${what}: ${part && `${part} `}${done} of ${total}` : what);
}

/** Milliseconds in words: 0.4 s, 12 s, 3 min 05 s. */
export function duration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${String(Math.round(seconds % 60)).padStart(2, '0')} s`;
}
