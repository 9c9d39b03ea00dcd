/** What a group norm ends in: nothing, an activation, or a modulation (zero-sft.ts). */
import type { DType } from '../core/shader.ts';
import { type Activation, activationWgsl } from './activation.ts';
import { modulationWgsl } from './zero-sft.ts';

/** For a kernel's name, WGSL of the functions, and what is stored of `normal`, at i and at_raw; `raw`: with a modulation. */
export function normalized(activation: Activation, raw: DType | undefined, type: 'f32' | 'vec4<f32>', normal: string) {
  if (raw)
    return {
      step: ` modulated, raw ${raw}`,
      functions: modulationWgsl(type),
      result: `modulate(${normal}, sft_gamma_load(i), sft_beta_load(i), raw_load(at_raw))`,
    };
  if (activation === 'none') return { step: '', functions: '', result: normal };
  return { step: ` ${activation}`, functions: activationWgsl(type), result: `${activation}(${normal})` };
}
