/** A bitmap on the page; without a label it only accompanies words. */
import { useEffect, useRef } from 'preact/hooks';

export function Picture({ bitmap, label, class: name }: { bitmap: ImageBitmap; label: string; class?: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    canvas.current?.getContext('2d', { colorSpace: widest() })?.drawImage(bitmap, 0, 0);
  }, [bitmap]);
  const said = label ? { role: 'img' as const, 'aria-label': label } : { 'aria-hidden': true };
  return <canvas ref={canvas} class={name} width={bitmap.width} height={bitmap.height} {...said} />;
}

/** The widest colours that the screen shows. */
const widest = (): PredefinedColorSpace => (matchMedia('(color-gamut: p3)').matches ? 'display-p3' : 'srgb');
