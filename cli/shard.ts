/** Which part of an album one process of several restores: --shard. */
import { createHash } from 'node:crypto';
import { UserError } from '../core/errors.ts';

/** One part of `count`, counted from 1. */
export interface Shard {
  index: number;
  count: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The part of `count` that a photo falls to, from 1, by its path within the album with / between folders. It does not depend on other photos, so that
 * adding some moves none.
 */
export function shardOf(key: string, count: number): number {
  const digest = createHash('sha256').update(key.normalize('NFC')).digest();
  return 1 + (digest.readUInt32BE(0) % count);
}

/**
 * What --shard means: `2/8`; or `auto`, which reads what Slurm and Kubernetes set; or `auto/8`, where the number of parts is given and only the task's
 * number is read, so that a part of an array can be submitted again. Throws UserError.
 */
export function parseShard(text: string, environment: Environment): Shard {
  const [, auto, given] = /^(auto)?\/?(\d+\/\d+|\d+)?$/.exec(text) ?? [];
  if (auto === undefined) {
    const [, index, count] = /^(\d+)\/(\d+)$/.exec(text) ?? [];
    if (!(Number(index) >= 1 && Number(index) <= Number(count) && Number(count) <= MOST)) throw malformed();
    return { index: Number(index), count: Number(count) };
  }
  if (text !== 'auto' && !/^auto\/[1-9]\d*$/.test(text)) throw malformed();
  const count = given === undefined ? undefined : Number(given);
  if (count !== undefined && count > MOST) throw malformed();
  return fromSlurm(environment, count) ?? fromKubernetes(environment, count) ?? notFound();
}

const MOST = 1_000_000;

const malformed = () => new UserError('It must be i/n with 1 <= i <= n, such as 2/8, or auto, or auto/n.');

function notFound(): never {
  throw new UserError(
    'auto finds no task: neither SLURM_ARRAY_TASK_ID nor SLURM_PROCID nor JOB_COMPLETION_INDEX is set. Give i/n, such as 2/8.',
  );
}

/** A whole number from the environment; undefined where it is not set. */
function numberIn(environment: Environment, name: string): number | undefined {
  const text = environment[name];
  if (text === undefined || text === '') return undefined;
  if (!/^\d+$/.test(text)) throw new UserError(`${name} is ${text}; it must be a whole number.`);
  return Number(text);
}

/** The task of an array, or else the process of a step with several. */
function fromSlurm(environment: Environment, count: number | undefined): Shard | undefined {
  const task = numberIn(environment, 'SLURM_ARRAY_TASK_ID');
  if (task === undefined) {
    const [process, processes] = [numberIn(environment, 'SLURM_PROCID'), numberIn(environment, 'SLURM_NTASKS')];
    if (process === undefined || processes === undefined) return undefined;
    return within(process, count ?? processes, 'SLURM_PROCID');
  }
  const step = numberIn(environment, 'SLURM_ARRAY_TASK_STEP') ?? 1;
  if (count !== undefined) {
    if (step > 1) throw new UserError(`auto/${count} needs an array without steps; this one has a step of ${step}.`);
    return { index: 1 + (task % count), count };
  }
  const first = numberIn(environment, 'SLURM_ARRAY_TASK_MIN') ?? 0;
  const tasks = numberIn(environment, 'SLURM_ARRAY_TASK_COUNT');
  if (tasks === undefined) throw new UserError('SLURM_ARRAY_TASK_COUNT is not set: give the number of parts, such as auto/8.');
  return within((task - first) / step, tasks, 'SLURM_ARRAY_TASK_ID');
}

function fromKubernetes(environment: Environment, count: number | undefined): Shard | undefined {
  const task = numberIn(environment, 'JOB_COMPLETION_INDEX');
  if (task === undefined) return undefined;
  const tasks = count ?? numberIn(environment, 'JOB_COMPLETIONS');
  if (tasks === undefined)
    throw new UserError(
      'Kubernetes tells a task its number and not how many there are: give auto/n, with n as the completions of the job.',
    );
  return within(task, tasks, 'JOB_COMPLETION_INDEX');
}

/** A task counted from 0. */
function within(task: number, count: number, name: string): Shard {
  if (Number.isInteger(task) && task >= 0 && task < count) return { index: task + 1, count };
  throw new UserError(`${name} does not lie within ${count} parts: give i/n, such as 2/8.`);
}
