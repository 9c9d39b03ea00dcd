/**
 * supir-webgpu as a library: the tensor framework, its kernels, the networks built on them, and the restoration.
 * Host adapters are imported by themselves: `supir-webgpu/host/node`, `supir-webgpu/host/browser`, `supir-webgpu/host/deno`.
 */
export { type AdapterFacts, Device, type MemoryUse, openDevice } from './core/device.ts';
export { DeviceError, ShapeError, UserError } from './core/errors.ts';
export { Module, Parameter, parameters } from './core/module.ts';
export { type KernelTime, Profile } from './core/profiler.ts';
export { compile, evaluate, Program } from './core/program.ts';
export { TorchRandom } from './core/random.ts';
export { constant, input, type Scalar, type Shape, scalar, Tensor } from './core/tensor.ts';
export { decode } from './image/decode.ts';
export { encodeJpeg, encodePng } from './image/encode.ts';
export type { FloatImage, Image } from './image/image.ts';
export { psnr, ssim } from './image/metrics.ts';
export { attention } from './kernels/attention.ts';
export { add, div, maximum, minimum, mul, sub } from './kernels/binary.ts';
export { conv2d } from './kernels/conv2d.ts';
export { concat, pad, permute, reshape, slice, upsampleNearest } from './kernels/copy.ts';
export { gatherRows } from './kernels/gather-rows.ts';
export { geglu } from './kernels/geglu.ts';
export { groupNorm } from './kernels/group-norm.ts';
export { layerNorm } from './kernels/layer-norm.ts';
export { linear, matmul } from './kernels/linear.ts';
export { max, mean, sum } from './kernels/reduce.ts';
export { softmax } from './kernels/softmax.ts';
export { abs, affine, cast, exp, gelu, quickGelu, sigmoid, silu, sqrt, square, tanh } from './kernels/unary.ts';
export { modulate } from './kernels/zero-sft.ts';
export { parseConfig, SUPIR_SDXL, type SupirConfig } from './models/config.ts';
export { Supir } from './models/supir.ts';
export { type RestoredPhoto, restorePhoto } from './restore/job.ts';
export { SupirModel } from './restore/model-folder.ts';
export { Networks } from './restore/networks.ts';
export { DEFAULTS, type RestoreOptions } from './restore/options.ts';
export { type RestoreEvents, restoreImages } from './restore/pipeline.ts';
export type { Recipe } from './restore/recipe.ts';
export { Restorer, type RestoreSettings } from './restore/restorer.ts';
export { type ByteSource, blobSource, bytesSource } from './weights/byte-source.ts';
export { Checkpoint } from './weights/checkpoint.ts';
export { convert } from './weights/convert.ts';
export { openFolder } from './weights/folder.ts';
export { httpSource } from './weights/http-source.ts';
export { openModelFiles } from './weights/model-files.ts';
export { openTensorFile } from './weights/open.ts';
export { cachedSource } from './weights/range-cache.ts';
export { recognize } from './weights/recognize.ts';
export { openSafetensors, Safetensors } from './weights/safetensors.ts';
export { encodeSafetensors } from './weights/safetensors-writer.ts';
export { openShards } from './weights/shards.ts';
