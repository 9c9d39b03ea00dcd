/** What the Explore view looks at: the network, the recorded run, and the step and block that are chosen. */
import { computed, effect, signal } from '@preact/signals';
import type { PlannedStep } from '../sampler/planned.ts';
import { blockNamesOf } from './block-names.ts';
import { chosen, given } from './choices.ts';
import { tellError } from './notices.ts';
import { run } from './photos.ts';
import type { NetworkReport, Recorded } from './protocol.ts';
import { engine, model } from './session.ts';

export const network = signal<NetworkReport | null>(null);
export const recorded = signal<Recorded | null>(null);
/** Small pictures of the blocks after the chosen step. */
export const energies = signal<ReadonlyMap<string, ImageBitmap>>(new Map());
export const schedule = signal<PlannedStep[]>([]);
/** From 1 on. */
export const step = signal(1);
/** Steps to choose from: those of the recorded run, else those that are planned. */
export const stepCount = computed(() => recorded.value?.steps ?? schedule.value.length);
const isRunning = computed(() => run.value !== null);
/** The chosen block's path. */
export const block = signal<string | null>(null);

/** What the blocks of the network are called. */
export const blockNames = computed(() => blockNamesOf(network.value?.graph.blocks ?? []));

export const chosenBlock = computed(() => network.value?.graph.blocks.find(({ path }) => path === block.value) ?? null);

/** Whether a block's activations were recorded. */
export const isRecorded = (path: string): boolean => recorded.value?.blocks.includes(path) ?? false;

/** Keeps all of it up to date while the view is shown; the function that it returns stops that. */
export function follow(): () => void {
  const stops = [
    effect(() => {
      if (!model.value) return;
      engine()
        .call('network', null)
        .then((found) => {
          network.value = found;
        }, tellError);
    }),
    effect(() => {
      // The engine forgets a run where another begins to be recorded, and where another model is opened.
      void [isRunning.value, model.value];
      engine()
        .call('recorded', null)
        .then((found) => {
          recorded.value = found;
        }, tellError);
    }),
    effect(() => {
      if (stepCount.value > 0) step.value = Math.min(step.value, stepCount.value);
    }),
    effect(() => {
      const [of, asked] = [recorded.value, step.value];
      if (!of) {
        energies.value = new Map();
        return;
      }
      engine()
        .call('energies', asked)
        .then((pictures) => {
          if (recorded.value === of && step.value === asked)
            energies.value = new Map(pictures.map(({ block, picture }) => [block, picture]));
        }, tellError);
    }),
    effect(() => {
      if (!model.value || chosen.value.problem) return;
      engine()
        .call('plan', given.value)
        .then((steps) => {
          schedule.value = steps;
        }, tellError);
    }),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}
