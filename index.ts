/**
 * supir-webgpu as a library: the tensor framework, its kernels, the networks built on them, and the restoration.
 * Host adapters are imported by themselves: `supir-webgpu/host/node`, `supir-webgpu/host/browser`, `supir-webgpu/host/deno`. The framework with all that
 * one needs to build networks of one's own is `supir-webgpu/framework`; the demo model's place is `supir-webgpu/demo`.
 */
export type { AdapterFacts } from './core/adapter.ts';
export { DeviceError, type Facts, factsOf, ShapeError, UserError, type Warning } from './core/errors.ts';
export { Module, NetworkModule, Parameter, parameters, places } from './core/module.ts';
export { TorchCudaRandom } from './core/philox.ts';
export { TorchRandom } from './core/random.ts';
export { watch, within } from './core/scope.ts';
export { constant, input, type Scalar, type Shape, scalar, Tensor } from './core/tensor.ts';
export { type BlockGraph, blocksOf } from './drawing/graph-blocks.ts';
export { drawGraph } from './drawing/graph-svg.ts';
export { evaluateMethods } from './evaluate/evaluate.ts';
export { LpipsMetric } from './evaluate/lpips.ts';
export { summarize } from './evaluate/tables.ts';
export type { MemoryUse } from './gpu/buffers.ts';
export { Device, openDevice } from './gpu/device.ts';
export { perfettoTrace } from './gpu/perfetto.ts';
export { type DispatchTime, type KernelTime, Profile } from './gpu/profiler.ts';
export { compile, evaluate, Program } from './gpu/program.ts';
export type { Files, Host } from './host/host.ts';
export { adainColorFix, waveletColorFix } from './image/color-fix.ts';
export { decode } from './image/decode.ts';
export { type Degradation, type DegradationRanges, degrade, drawDegradation, PAPER_DEGRADATION } from './image/degrade.ts';
export { encodeJpeg, encodePng, type PngOptions } from './image/encode.ts';
export { type DeepImage, type FloatImage, fromUnit, type Image, type SizeLimits, toUnit } from './image/image.ts';
export { createMask, type Mask, maskOf } from './image/mask.ts';
export type { ImageMetadata } from './image/metadata.ts';
export { psnr, ssim } from './image/metrics.ts';
export { finish, prepare } from './image/prepare.ts';
export { encodeWebp } from './image/webp.ts';
export { attention } from './kernels/attention.ts';
export { add, div, equal, greater, less, maximum, minimum, mul, sub } from './kernels/binary.ts';
export { conv2d } from './kernels/conv2d.ts';
export { concat, pad, permute, slice, upsampleNearest } from './kernels/copy.ts';
export { depthToSpace } from './kernels/depth-to-space.ts';
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
export { parseConfig, SUPIR_SDXL, type SupirConfig } from './models/config.ts';
export { adaptersOf, LoraStack } from './models/lora.ts';
export { mergeLora } from './models/lora-merge.ts';
export { type LoraHandle, LoraSet } from './models/lora-set.ts';
export { Supir } from './models/supir.ts';
export { planTiles } from './models/tile-plan.ts';
export { runTiled } from './models/tiled-graph.ts';
export { type Captioner, type CaptionServer, captionServer } from './restore/caption.ts';
export { chooseOptions, type GivenOptions } from './restore/choose-options.ts';
export type { Face, FaceFinder } from './restore/faces.ts';
export { type Forecast, forecastRestore } from './restore/forecast.ts';
export { type RestoredPhoto, restorePhoto } from './restore/job.ts';
export { type LatentMoments, sampleMoments } from './restore/latents.ts';
export { ALL_OPTIONS, type AnyMethod, METHODS } from './restore/methods.ts';
export { Model } from './restore/model.ts';
export { NETWORK_NAMES, networkGraph, networkNames } from './restore/network-graphs.ts';
export { type DenoiserOptions, DenoisingNetwork, images, type Tap, type TextConditioning, type Values } from './restore/networks.ts';
export { DEFAULTS, OPTIONS, type RestoreOptions } from './restore/options.ts';
export { Results, runStages } from './restore/pipeline.ts';
export { PRESETS, type Preset, presetsOf } from './restore/presets.ts';
export { LatentPreview, previewEvents } from './restore/preview.ts';
export { type Progress, ProgressMeter } from './restore/progress.ts';
export type { Recipe } from './restore/recipe.ts';
export { changeMap, type FidelityReport, fidelity } from './restore/report.ts';
export { type LoraChoice, type RestoredWithRecipe, Restorer, type RestoreSettings, Samples } from './restore/restorer.ts';
export { plannedSteps } from './restore/sampling.ts';
export { measureSpeeds, type Speeds } from './restore/speed.ts';
export type { Job, Kind, Method, ModelOptions, Planning, RestoreEvents, Stage, StagePlan } from './restore/stage.ts';
export { restoreImages, SUPIR, type SupirInputs, type SupirKind, type SupirMade } from './restore/supir.ts';
export { SupirModel } from './restore/supir-model.ts';
export { type TraceWriter, traceTo } from './restore/trace.ts';
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
export { LoraTraining } from './train/lora-training.ts';
export { runTraining } from './train/run.ts';
export { type ByteSource, blobSource, bytesSource } from './weights/byte-source.ts';
export { Checkpoint } from './weights/checkpoint.ts';
export { compareWeights } from './weights/compare.ts';
export { convert } from './weights/convert.ts';
export { openFolder } from './weights/folder.ts';
export { httpSource } from './weights/http-source.ts';
export { readLora } from './weights/lora.ts';
export { openModelFiles } from './weights/model-files.ts';
export { openTensorFile } from './weights/open.ts';
export { cachedSource } from './weights/range-cache.ts';
export { recognize } from './weights/recognize.ts';
export { openSafetensors, Safetensors } from './weights/safetensors.ts';
export { encodeSafetensors } from './weights/safetensors-writer.ts';
export { openShards } from './weights/shards.ts';
