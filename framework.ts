/**
 * The tensor framework by itself: devices, tensors, operations of one's own, all kernels, modules and layers, gradients, AdamW and the training
 * loop, files of weights, samplers, and the networks that are built on it. The page docs/framework.md begins with a network in thirty lines.
 */

// Devices
export type { AdapterFacts, Schedule } from './core/adapter.ts';
// Tensors, operations, shaders
export type { BlockDType } from './core/blocks.ts';
export type { DebugOptions } from './core/debug.ts';
export { DeviceError, type Facts, factsOf, ShapeError, UserError } from './core/errors.ts';
export type { GradientOptions } from './core/gradient.ts';
export { decodeF16, encodeF16 } from './core/half.ts';
// Modules and layers
export { Module, NetworkModule, named, Parameter, type Place, parameters, places } from './core/module.ts';
export { apply, type Dispatch, type Inputs, isOp, type Lowering, type Op, type Operand, type OpTensor, width } from './core/op.ts';
export type { ParameterKind, ParameterSource } from './core/parameter-source.ts';
export { TorchCudaRandom } from './core/philox.ts';
export { TorchRandom } from './core/random.ts';
export { watch, within } from './core/scope.ts';
export { type Binding, type DType, elementType, type ShaderSpec, shader, shaderSource } from './core/shader.ts';
export {
  constant,
  describe,
  input,
  type Scalar,
  type Shape,
  sameShape,
  scalar,
  showShape,
  sizeOf,
  Tensor,
  type TensorData,
} from './core/tensor.ts';
export { Device, type OpenOptions, openDevice } from './gpu/device.ts';
export { perfettoTrace } from './gpu/perfetto.ts';
export { type DispatchTime, type KernelTime, Profile } from './gpu/profiler.ts';
export {
  type CompileOptions,
  compile,
  evaluate,
  Program,
  type RunInputs,
  type RunOutputs,
  type Transfer,
  type Transfers,
} from './gpu/program.ts';
export type { Files, Host } from './host/host.ts';
// Kernels
export { attention } from './kernels/attention.ts';
export { add, div, equal, greater, less, maximum, minimum, mul, sub } from './kernels/binary.ts';
export { type Conv2dOptions, conv2d } from './kernels/conv2d.ts';
export { concat, pad, permute, slice, upsampleNearest } from './kernels/copy.ts';
export { depthToSpace } from './kernels/depth-to-space.ts';
export { plan } from './kernels/fusion.ts';
export { gatherRows } from './kernels/gather-rows.ts';
export { geglu } from './kernels/geglu.ts';
export { gradient } from './kernels/gradient.ts';
export { groupNorm } from './kernels/group-norm.ts';
export { layerNorm } from './kernels/layer-norm.ts';
export { linear, matmul } from './kernels/linear.ts';
export { max, mean, sum } from './kernels/reduce.ts';
export { reshape } from './kernels/reshape.ts';
export { softmax } from './kernels/softmax.ts';
export {
  abs,
  affine,
  cast,
  cos,
  exp,
  gelu,
  leakyRelu,
  log,
  quickGelu,
  relu,
  sigmoid,
  silu,
  sin,
  sqrt,
  square,
  tanh,
} from './kernels/unary.ts';
export { where } from './kernels/where.ts';
export { relativeBias, windowAttention } from './kernels/window-attention.ts';
export { modulate } from './kernels/zero-sft.ts';
// Networks
export { Conditioner, SUPIR_SIZES, type TokenPair } from './models/conditioner.ts';
export { parseConfig, SUPIR_SDXL, type SupirConfig } from './models/config.ts';
export { ControlNet } from './models/control.ts';
export { Conv2d, GroupNorm, type Layer, LayerNorm, Linear, Pointwise, Sequential } from './models/layers.ts';
export { adaptersOf, LoraStack } from './models/lora.ts';
export { type LoraHandle, LoraSet } from './models/lora-set.ts';
export { Lpips } from './models/lpips.ts';
export { Supir } from './models/supir.ts';
export { SupirUnet } from './models/supir-unet.ts';
export { timestepEmbedding } from './models/timestep-embedding.ts';
export { ClipTokenizer } from './models/tokenizer.ts';
export { type Join, Unet } from './models/unet.ts';
export { SupirVae, Vae } from './models/vae.ts';
export { ZeroSFT } from './models/zero-sft.ts';

// Samplers
export { sampleDdim } from './sampler/ddim.ts';
export type { Network, NetworkInput } from './sampler/denoiser.ts';
export type { Diffusion, DiffusionSamplerOptions, Parameterization } from './sampler/diffusion.ts';
export { sampleDpmSolver } from './sampler/dpm-solver.ts';
export { sampleDpmpp2m } from './sampler/dpmpp-2m.ts';
export { type EdmOptions, sampleEdm } from './sampler/edm.ts';
export { type EdmSolver, type EdmSolverOptions, sampleEdmSolver } from './sampler/edm-solvers.ts';
export { sampleEuler } from './sampler/euler.ts';
export type { SamplerOptions, SamplerStep } from './sampler/sampler.ts';
export { alphasCumprod, NoiseSchedule } from './sampler/schedule.ts';
export { sampleSpaced } from './sampler/spaced.ts';
// Training
export { AdamW, type AdamWOptions, type Kept } from './train/adamw.ts';
export { drawWeights, type TrainableWeights } from './train/draw-weights.ts';
export { type LearningRateOptions, learningRate } from './train/learning-rate.ts';
export { type Pass, type StepResult, TrainingStep, type TrainingStepOptions } from './train/step.ts';
export { type StepReport, type Task, Training, type TrainingItem, type TrainingOptions } from './train/training.ts';
// Files of weights
export { type AttachOptions, attach, expectedKeys, type WeightDType } from './weights/attach.ts';
export { type ByteSource, blobSource, bytesSource } from './weights/byte-source.ts';
export { Checkpoint } from './weights/checkpoint.ts';
export { httpSource } from './weights/http-source.ts';
export { openTensorFile } from './weights/open.ts';
export { openSafetensors, Safetensors } from './weights/safetensors.ts';
export { encodeSafetensors } from './weights/safetensors-writer.ts';
