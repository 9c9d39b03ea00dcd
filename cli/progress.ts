/** Progress on standard error: a bar with the step and the time left on a terminal, a line a stage elsewhere. Silent with --quiet and --json. */
import { Presets, SingleBar } from 'cli-progress';
import type { RestoreEvents, Stage } from '../restore/pipeline.ts';

const STAGES: Record<Stage, string> = {
  encode: 'reading the degraded image',
  stage1: 'decoding the stage-1 image',
  reencode: 'encoding the stage-1 image',
  text: 'reading the prompts',
  plan: 'planning the network',
  sample: 'sampling',
  decode: 'decoding the result',
};

export interface Progress extends RestoreEvents {
  /** Removes the bar; call it before writing anything else, also after an error. */
  stop(): void;
}

export function progress(title: string): Progress {
  const terminal = process.stderr.isTTY === true;
  let bar: SingleBar | null = null;
  let stageBegan = 0;
  const stop = () => {
    bar?.stop();
    bar = null;
  };
  return {
    stop,
    stage(stage) {
      if (!bar && terminal) {
        bar = new SingleBar(
          // no gracefulExit: it would take signals away from the command, which ends the work by itself
          { format: `${title} [{bar}] {what}`, clearOnComplete: true, gracefulExit: false, stream: process.stderr },
          Presets.legacy,
        );
        bar.start(1, 0, { what: '' });
      }
      if (bar) bar.update({ what: STAGES[stage] });
      else process.stderr.write(`${title}: ${STAGES[stage]}\n`);
      stageBegan = performance.now();
    },
    tile(done, of) {
      const what = `tile ${done} of ${of}`;
      if (bar) bar.update({ what });
      else process.stderr.write(`${title}: ${what}\n`);
    },
    step({ step, steps }) {
      const left = ((performance.now() - stageBegan) / step) * (steps - step);
      const what = `step ${step} of ${steps}, ${duration(left)} left`;
      if (bar) {
        bar.setTotal(steps);
        bar.update(step, { what });
      } else process.stderr.write(`${title}: ${what}\n`);
    },
  };
}

/** Milliseconds in words: 0.4 s, 12 s, 3 min 05 s. */
export function duration(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${String(Math.round(seconds % 60)).padStart(2, '0')} s`;
}
