/** Weights that lie one after the other in a weight, by which programs compute with all of them at once. */
import type { ParameterKind } from '../core/parameter-source.ts';
import { Parameter, type Shape, type Tensor } from '../core/tensor.ts';
import { part, placeBehind } from './part.ts';

/** A weight of another's elements, from `first` on: that one is placed and changed, and graphs read this one where it lies. */
export class WeightPart extends Parameter {
  readonly whole: Parameter;
  readonly first: number;

  constructor(shape: Shape, kind: ParameterKind, whole: Parameter, first: number) {
    super(shape, kind);
    this.whole = whole;
    this.first = first;
    this.dtype = 'f32';
  }

  override get tensor(): Tensor {
    return part(this.whole.tensor, this.first, this.storedShape);
  }
}

/** The weight that a weight lies in: itself, unless it is a part. */
export const wholeOf = (weight: Parameter): Parameter => (weight instanceof WeightPart ? weight.whole : weight);

/** A weight's first element in its whole. */
export const firstOf = (weight: Parameter): number => (weight instanceof WeightPart ? weight.first : 0);

/** Whether so many elements may lie one after the other in a weight. */
export const canFollow = (size: number): boolean => placeBehind(size) === size;
