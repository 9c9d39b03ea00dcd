/**
 * A pane in which pictures of one size lie, zoomed and moved by wheel, drag and pinch. With two of them a line divides what is seen of each: it
 * follows the pointer, and a range input moves it for the keyboard and for screen readers.
 */
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { Picture } from './picture.tsx';
import type { Zoom } from './zoom.ts';

export interface Layer {
  bitmap: ImageBitmap;
  label: string;
}

interface Props {
  /** What is seen right of the line, or alone. */
  after: Layer;
  /** Left of the line. */
  before?: Layer | null;
  zoom: Zoom;
  title?: string;
}

/** Pointers nearer to the line than this take hold of it, in pixels. */
const NEAR = 28;

export function Pane({ after, before = null, zoom, title }: Props) {
  const pane = useRef<HTMLDivElement>(null);
  const at = useSignal(50);
  const pointers = useRef(new Map<number, { x: number; y: number }>());
  const moving = useRef<'line' | 'picture' | null>(null);

  useEffect(() => {
    const element = pane.current!;
    const wheel = (event: WheelEvent) => {
      if (!event.ctrlKey && zoom.scale.value === 1 && event.deltaY > 0) return; // the page scrolls on
      event.preventDefault();
      const box = element.getBoundingClientRect();
      zoom.zoom(Math.exp(-event.deltaY / 300), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    };
    element.addEventListener('wheel', wheel, { passive: false });
    return () => element.removeEventListener('wheel', wheel);
  }, [zoom]);

  const { width, height } = after.bitmap;
  useEffect(() => {
    const watch = new ResizeObserver(([{ contentRect }]) => {
      zoom.fitted.value = (contentRect.width * devicePixelRatio) / width;
    });
    watch.observe(pane.current!);
    return () => watch.disconnect();
  }, [zoom, width]);

  const share = (event: PointerEvent) => {
    const box = pane.current!.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height, width: box.width };
  };
  const down = (event: PointerEvent) => {
    const { x, y, width } = share(event);
    pane.current!.setPointerCapture(event.pointerId);
    pointers.current.set(event.pointerId, { x, y });
    const near = Math.abs(x - at.value / 100) * width < NEAR;
    moving.current = before && (near || zoom.scale.value === 1) ? 'line' : 'picture';
    if (moving.current === 'line') at.value = 100 * x;
  };
  const move = (event: PointerEvent) => {
    const last = pointers.current.get(event.pointerId);
    if (!last) return;
    const { x, y } = share(event);
    const other = [...pointers.current].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const apart = (point: { x: number; y: number }) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      zoom.zoom(apart({ x, y }) / apart(last), (x + other.x) / 2, (y + other.y) / 2);
    } else if (moving.current === 'line') at.value = Math.min(100, Math.max(0, 100 * x));
    else zoom.pan(x - last.x, y - last.y);
    pointers.current.set(event.pointerId, { x, y });
  };
  const up = (event: PointerEvent) => pointers.current.delete(event.pointerId);
  const key = (event: KeyboardEvent) => {
    const step = { '+': 1.5, '=': 1.5, '-': 1 / 1.5 }[event.key];
    if (step) zoom.zoom(step);
    else if (event.key === '0') zoom.reset();
  };

  const style = { transform: zoom.transform.value };
  const sharp = zoom.scale.value >= 3 ? 'sharp' : '';
  return (
    <figure class="pane-figure">
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the range input inside is the control; pointers and wheel are a shortcut to it */}
      <div
        ref={pane}
        class={`pane ${sharp}`}
        style={{ aspectRatio: `${width} / ${height}`, '--at': `${at.value}%` }}
        onPointerDown={down}
        onPointerMove={move}
        onPointerUp={up}
        onPointerCancel={up}
        onKeyDown={key}
      >
        <div class="layer" style={style}>
          <Picture bitmap={after.bitmap} label={after.label} />
        </div>
        {before && (
          <>
            <div class="layer before">
              <div class="layer" style={style}>
                <Picture bitmap={before.bitmap} label={before.label} />
              </div>
            </div>
            <input
              type="range"
              class="divider"
              min="0"
              max="100"
              step="1"
              value={Math.round(at.value)}
              aria-label={`Share of the picture that shows: ${before.label}`}
              aria-valuetext={`${Math.round(at.value)} percent ${before.label}, ${Math.round(100 - at.value)} percent ${after.label}`}
              onInput={(event) => {
                at.value = Number(event.currentTarget.value);
              }}
            />
            <div class="line" aria-hidden="true" />
            <span class="tag left" aria-hidden="true">
              {before.label}
            </span>
          </>
        )}
        <span class="tag right" aria-hidden="true">
          {after.label}
        </span>
      </div>
      {title && <figcaption>{title}</figcaption>}
    </figure>
  );
}

/** Buttons for what wheel and pinch do. */
export function ZoomButtons({ zoom }: { zoom: Zoom }) {
  return (
    <fieldset class="buttons" aria-label="Zoom">
      <button type="button" onClick={() => zoom.zoom(1 / 1.5)} disabled={zoom.scale.value === 1} aria-label="Zoom out">
        −
      </button>
      <output title="Pixels of the screen for one of the picture">{Math.round(100 * zoom.fitted.value * zoom.scale.value)} %</output>
      <button type="button" onClick={() => zoom.zoom(1.5)} aria-label="Zoom in">
        +
      </button>
      <button type="button" onClick={() => zoom.reset()} disabled={zoom.scale.value === 1} title="The whole picture">
        Fit
      </button>
      <button
        type="button"
        onClick={() => zoom.actual()}
        disabled={zoom.fitted.value >= 1}
        title="One pixel of the picture on one of the screen"
      >
        100 %
      </button>
    </fieldset>
  );
}
