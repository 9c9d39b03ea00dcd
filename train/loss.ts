/**
 * The loss of denoising: the mean square of predicted minus true noise (arXiv 2408.17060, eq. 3 and 4), weighted by image.
 * Min-SNR weights: Hang et al. 2023, arXiv 2303.09556. Noise offset: N. Guttenberg, "Diffusion with offset noise", 2023.
 */
import { UserError } from '../core/errors.ts';
import type { TorchRandom } from '../core/random.ts';
import { type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import { mul, sub } from '../kernels/binary.ts';
import { mean } from '../kernels/reduce.ts';
import { reshape } from '../kernels/reshape.ts';
import { square } from '../kernels/unary.ts';

/** predicted and noise (N, h, w, z), weight (N) -> perImage (N), the mean squares; loss (1), the mean of weight times perImage. */
export function noiseLoss(predicted: Tensor, noise: Tensor, weight: Tensor): { loss: Tensor; perImage: Tensor } {
  const [n, ...rest] = predicted.shape;
  const perImage = mean(reshape(square(sub(predicted, noise)), [n, sizeOf(rest)]));
  return { loss: mean(mul(perImage, weight)), perImage };
}

/** The weight of an image of noise level sigma (noise over signal): min(SNR, gamma) / SNR with SNR = 1 / sigma^2; 1 without gamma. */
export function minSnrWeight(sigma: number, gamma: number | null): number {
  if (gamma === null) return 1;
  if (!(gamma > 0)) throw new UserError(`min-SNR's gamma is ${gamma}; it must be above 0, commonly 5.`);
  return Math.min(1, gamma * sigma ** 2);
}

/** Unit noise (N, h, w, z); with `offset`, each image's channel is also shifted by offset times a normal number. */
export function trainingNoise(random: TorchRandom, shape: Shape, offset = 0): Float32Array {
  const noise = random.randn(sizeOf(shape));
  if (offset === 0) return noise;
  const [n, h, w, z] = shape;
  const shifts = random.randn(n * z);
  return noise.map((value, i) => value + offset * shifts[Math.floor(i / (h * w * z)) * z + (i % z)]);
}

/** x + sigma noise at the scale the networks see: (clean + sigma noise) / sqrt(sigma^2 + 1), sigma by image. */
export function noisy(clean: Float32Array, noise: Float32Array, sigmas: ArrayLike<number>): Float32Array {
  const perImage = clean.length / sigmas.length;
  return clean.map((value, i) => {
    const sigma = sigmas[Math.floor(i / perImage)];
    return (value + sigma * noise[i]) / Math.sqrt(sigma ** 2 + 1);
  });
}
