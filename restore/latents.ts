/** Latents on the host: an encoder's moments, what is sampled of them, and noise in the order of the published programs. */
import type { Values } from './values.ts';

export interface LatentMoments {
  mean: Values;
  logvar: Values;
}

export function map(values: Values, f: (value: number, i: number) => number): Values {
  return { shape: values.shape, data: values.data.map(f) };
}

/** What an encoder gives, (N, h, w, 2 z) -> mean and log variance, each (N, h, w, z). */
export function splitMoments({ data, shape }: Values): LatentMoments {
  const z = shape[3] / 2;
  const half = (first: number): Values => {
    const values = new Float32Array(data.length / 2);
    for (let to = 0, from = first; to < values.length; to += z, from += 2 * z) values.set(data.subarray(from, from + z), to);
    return { shape: [...shape.slice(0, 3), z], data: values };
  };
  return { mean: half(0), logvar: half(z) };
}

/** scale (mean + exp(logvar / 2) noise), logvar clamped to [-30, 20]. */
export function sampleMoments({ mean, logvar }: LatentMoments, noise: Float32Array, scale: number): Values {
  return map(mean, (value, i) => scale * (value + Math.exp(Math.min(20, Math.max(-30, logvar.data[i])) / 2) * noise[i]));
}

/** Unit-normal noise drawn in the reference's order (N, C, H, W), laid out (N, H, W, C). */
export function channelsLastNoise(random: { randn(n: number): Float32Array }, [n, h, w, c]: readonly number[]): Float32Array {
  const drawn = random.randn(n * c * h * w);
  const noise = new Float32Array(drawn.length);
  for (let i = 0, from = 0; i < n; i++) {
    for (let channel = 0; channel < c; channel++) {
      for (let pixel = 0; pixel < h * w; pixel++, from++) noise[(i * h * w + pixel) * c + channel] = drawn[from];
    }
  }
  return noise;
}

/** `draw`, in the same order, but while the caller waits for something, such as the GPU, the next is drawn already. */
export function drawnAhead<T>(draw: () => T): () => T {
  const ahead: T[] = [];
  return () => {
    const drawn = ahead.pop() ?? draw();
    setTimeout(() => {
      if (ahead.length === 0) ahead.push(draw());
    });
    return drawn;
  };
}
