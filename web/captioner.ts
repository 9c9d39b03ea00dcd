/** Who is asked what photos show: nobody, until a person switches it on. */
import { computed, signal } from '@preact/signals';
import { stored } from './local.ts';
import { isOpened, originOf } from './opened.ts';
import type { CaptionerChoice } from './protocol.ts';

export const on = signal(false);
export const url = signal(stored('caption-url') ?? '');
export const model = signal(stored('caption-model') ?? '');
/** Never kept. */
export const key = signal('');

export const origin = computed(() => originOf(url.value));

/** Null where nobody is asked. */
export const captioner = computed<CaptionerChoice | null>(() =>
  on.value && origin.value !== null && isOpened(origin.value) && model.value.trim() !== ''
    ? { url: url.value.trim(), model: model.value.trim(), ...(key.value === '' ? {} : { key: key.value }) }
    : null,
);
