/** What a group norm's elementwise parts share: what a span of channels binds, and that it ends in nothing, an activation, or a modulation (zero-sft.ts). */
import type { Operand } from '../core/op.ts';
import type { DType } from '../core/shader.ts';
import { type Activation, activationWgsl } from './activation.ts';
import { type ChannelSpan, touched } from './channel-spans.ts';
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

/** What belongs to channels; that of a modulation is null where there is none. */
export interface OfChannels {
  gamma: Operand;
  beta: Operand;
  sftGamma: Operand | null;
  sftBeta: Operand | null;
}

/** What a dispatch of a span binds, moments apart: the span's source, and that of raw where there is a second. */
export function spanOperands({ gamma, beta, sftGamma, sftBeta }: OfChannels, y: Operand, { first, end, sources }: ChannelSpan) {
  const [x, raw] = sources;
  const part = (operand: Operand) => touched(operand, end - first);
  return {
    x: x.operand,
    gamma: part(gamma),
    beta: part(beta),
    sft_gamma: sftGamma && part(sftGamma),
    sft_beta: sftBeta && part(sftBeta),
    raw: raw?.operand,
    y: part(y),
  };
}

/** Where a span lies, in loads: its first channel, all `channels`, and its places in x and raw. */
export function spanParams({ first, sources: [x, raw] }: ChannelSpan, channels: number, loads: 1 | 4) {
  return {
    first: first / loads,
    y_stride: channels / loads,
    x_stride: x.stride / loads,
    x_start: x.start / loads,
    raw_stride: raw && raw.stride / loads,
    raw_start: raw && raw.start / loads,
  };
}
