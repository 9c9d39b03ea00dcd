/** A bitmap on the page. */
import { useEffect, useRef } from 'preact/hooks';

export function Picture({ bitmap, label, class: name }: { bitmap: ImageBitmap; label: string; class?: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    canvas.current?.getContext('2d')?.drawImage(bitmap, 0, 0);
  }, [bitmap]);
  return <canvas ref={canvas} class={name} width={bitmap.width} height={bitmap.height} role="img" aria-label={label} />;
}
