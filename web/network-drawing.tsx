/** The network, block by block: what each is, its share of the work, where it was strong after the chosen step, and what it is joined to. */
import { useSignal } from '@preact/signals';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import type { GraphBlock } from '../drawing/graph-blocks.ts';
import { moduleOf } from './block-names.ts';
import { chosen } from './choices.ts';
import { blockNames, block as chosenPath, energies, network } from './exploration.ts';
import { BOX_HEIGHT, BOX_WIDTH, type DrawingLayout, layoutOf } from './network-layout.ts';
import { Picture } from './picture.tsx';
import { amount } from './words.ts';

/** Below this width, in pixels, the drawing is made narrow. */
const NARROW = 560;

/** The network, as wide as there is room: nothing of it has to be scrolled to sideways. */
export function NetworkDrawing() {
  const report = network.value;
  const place = useRef<HTMLElement>(null);
  const room = useSignal(0);
  useEffect(() => {
    const watch = new ResizeObserver(([{ contentRect }]) => {
      room.value = contentRect.width;
    });
    watch.observe(place.current!);
    return () => watch.disconnect();
  }, [room]);
  const shape = room.value < NARROW ? 'narrow' : 'wide';
  const layout = useMemo(() => report && layoutOf(report.graph, shape), [report, shape]);
  return (
    <section class="drawing" aria-label="Network" ref={place}>
      {layout && room.value > 0 ? (
        <Blocks layout={layout} zoom={Math.min(1.25, room.value / layout.width)} />
      ) : (
        <p class="dim">Drawing the network</p>
      )}
    </section>
  );
}

function Blocks({ layout, zoom }: { layout: DrawingLayout; zoom: number }) {
  const most = Math.max(...layout.boxes.map(({ block }) => block.flops));
  const now = chosenPath.value;
  return (
    <div class="network" style={{ width: `${layout.width}px`, height: `${layout.height}px`, zoom }}>
      <svg width={layout.width} height={layout.height} aria-hidden="true">
        {layout.lines.map(({ from, to, path, skip }) => (
          <path key={`${from} ${to}`} d={path} class={`${skip ? 'skip-line' : ''} ${from === now || to === now ? 'near' : ''}`} />
        ))}
      </svg>
      {layout.boxes.map(({ block, x, y }) => (
        <BlockBox key={block.path} block={block} share={block.flops / most} x={x} y={y} />
      ))}
    </div>
  );
}

/** Project modules that the next run leaves out, of a method that has them. */
const switchedOff = () => (chosen.value.options.ablate ?? []) as readonly (number | null)[];

function BlockBox({ block, share, x, y }: { block: GraphBlock; share: number; x: number; y: number }) {
  const picture = energies.value.get(block.path);
  const { family, title, short } = blockNames.value.get(block.path)!;
  const isOff = switchedOff().includes(moduleOf(block.path));
  return (
    <button
      type="button"
      class={`block ${family} ${isOff ? 'off' : ''}`}
      style={{ left: `${x}px`, top: `${y}px`, width: `${BOX_WIDTH}px`, height: `${BOX_HEIGHT}px` }}
      title={block.path}
      aria-pressed={chosenPath.value === block.path}
      data-block={block.path}
      onClick={() => {
        chosenPath.value = block.path;
      }}
    >
      {picture && <Picture bitmap={picture} label="" />}
      <span class="name">{short}</span>
      <span class="shape">{block.shape.slice(1).join(' × ')}</span>
      <span class="sr">
        , {title}, {block.kind} {amount(block.flops)}FLOP
      </span>
      <span class="work-share" style={{ width: `${100 * share}%` }} />
    </button>
  );
}
