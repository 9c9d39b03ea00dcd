/**
 * A page for a bundler: the GPU computes a picture, which is shown as a PNG. Nothing has to be configured.
 * In this folder: npx vite, or npx esbuild main.ts --bundle --format=esm --splitting --outdir=out
 */
import { encodePng } from 'supir-webgpu';
import { affine, constant, evaluate, mul, openDevice, reshape, sin } from 'supir-webgpu/framework';
import { host } from 'supir-webgpu/host/browser';

const [width, height] = [96, 64];
const element = <T extends Element>(id: string) => document.querySelector<T>(`#${id}`)!;

try {
  const device = await openDevice({ gpu: await host.gpu(), settle: host.settle });
  const x = constant(
    Float32Array.from({ length: width }, (_, i) => i / 6),
    [1, width, 1],
  );
  const y = constant(
    Float32Array.from({ length: height }, (_, i) => i / 9),
    [height, 1, 1],
  );
  const tint = constant(Float32Array.of(1, 0.7, 0.4), [1, 1, 3]);
  const waves = await evaluate(device, reshape(mul(affine(mul(sin(x), sin(y)), 127, 128), tint), [height, width, 3]));
  const png = encodePng({ width, height, data: Uint8Array.from(waves) });
  element<HTMLImageElement>('picture').src = URL.createObjectURL(new Blob([png], { type: 'image/png' }));
  element('text').textContent = `Computed by ${device.facts.description || 'the GPU'}.`;
} catch (error) {
  element('text').textContent = (error as Error).message;
}
