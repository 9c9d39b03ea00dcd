/**
 * How often an input's values change: with every run, or seldom, as texts do between the steps of a sampler. What depends on weights and on what changes seldom
 * alone is computed when it is given and kept (hoist.ts); results are the same either way.
 */
export type Changes = 'every run' | 'seldom';

/** A value that may change between runs without a new plan: it travels in the kernels' uniform parameters. */
export class ScalarInput {
  readonly name: string;
  readonly changes: Changes;
  constructor(name: string, changes: Changes = 'every run') {
    this.name = name;
    this.changes = changes;
  }
}

export type Scalar = number | ScalarInput;

/** A number given at each run under `name`. */
export function scalar(name: string, changes: Changes = 'every run'): ScalarInput {
  return new ScalarInput(name, changes);
}
