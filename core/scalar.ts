/** A value that may change between runs without a new plan: it travels in the kernels' uniform parameters. */
export class ScalarInput {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

export type Scalar = number | ScalarInput;

/** A number given at each run under `name`. */
export function scalar(name: string): ScalarInput {
  return new ScalarInput(name);
}
