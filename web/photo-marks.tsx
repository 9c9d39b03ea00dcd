/** Marking what of a photo is restored: rectangles and a brush, over the photo; and the faces that were found in it, each with a switch. */
import { useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';
import { boxOf } from '../options/schema.ts';
import { Icon } from './icon.tsx';
import { tellError } from './notices.ts';
import { findFaces, mark, type Photo, run } from './photos.ts';
import { type Stroke, UNMARKED } from './strokes.ts';

type Tool = 'none' | 'rectangle' | 'brush';

const TOOLS: readonly [Tool, string][] = [
  ['none', 'Whole photo'],
  ['rectangle', 'Rectangle'],
  ['brush', 'Brush'],
];

/** The photo, with what is marked on it, and the tools for that below. */
export function MarkedPhoto({ photo }: { photo: Photo }) {
  const tool = useSignal<Tool>('none');
  const size = useSignal(6);
  /** What is being drawn: a rectangle's corner and its opposite, or a stroke. */
  const drawn = useSignal<number[]>([]);
  const svg = useRef<SVGSVGElement>(null);
  const { width, height, marks } = photo;
  const radius = Math.max(2, (size.value / 100) * Math.max(width, height));

  const at = ({ clientX, clientY }: PointerEvent): [number, number] => {
    const box = svg.current!.getBoundingClientRect();
    const within = (value: number, most: number) => Math.round(Math.min(most, Math.max(0, value)));
    return [within(((clientX - box.left) / box.width) * width, width), within(((clientY - box.top) / box.height) * height, height)];
  };
  const down = (event: PointerEvent) => {
    if (tool.value === 'none' || event.button !== 0) return;
    svg.current!.setPointerCapture(event.pointerId);
    drawn.value = at(event);
  };
  const move = (event: PointerEvent) => {
    if (drawn.value.length === 0) return;
    const point = at(event);
    drawn.value = tool.value === 'brush' ? [...drawn.value, ...point] : [...drawn.value.slice(0, 2), ...point];
  };
  const up = () => {
    const points = drawn.value;
    drawn.value = [];
    if (points.length === 0) return;
    if (tool.value === 'brush') mark(photo.id, { ...marks, strokes: [...marks.strokes, { points, radius }] });
    else if (points.length === 4) {
      const box = rectangle(points);
      if (box) mark(photo.id, { ...marks, regions: [...marks.regions, box] });
    }
  };

  const pending = tool.value === 'brush' && drawn.value.length > 0 ? [{ points: drawn.value, radius }] : [];
  const corner = tool.value === 'rectangle' && drawn.value.length === 4 ? rectangle(drawn.value) : null;
  const isMarked = marks.regions.length > 0 || marks.strokes.length > 0;
  return (
    <>
      <div class="frame">
        <div class="marked">
          <img src={photo.url} alt={`${photo.name} before the restoration`} />
          {width > 0 && (
            <svg
              ref={svg}
              class={tool.value}
              viewBox={`0 0 ${width} ${height}`}
              role="img"
              aria-label={`Marked on ${photo.name}: ${marks.regions.length} rectangles, ${marks.strokes.length} strokes, ${marks.faces?.length ?? 0} faces`}
              onPointerDown={down}
              onPointerMove={move}
              onPointerUp={up}
              onPointerCancel={() => {
                drawn.value = [];
              }}
            >
              {[...marks.strokes, ...pending].map((stroke, i) => (
                <Line key={i} stroke={stroke} />
              ))}
              {[...marks.regions, ...(corner ? [corner] : [])].map((box) => (
                <Frame key={box} box={box} kind="region" />
              ))}
              {marks.faces?.map(({ box, on }) => (
                <Frame key={box} box={box} kind={on ? 'face' : 'face off'} />
              ))}
            </svg>
          )}
        </div>
      </div>
      {width > 0 && (
        <div class="marking">
          <fieldset class="presets inline">
            <legend>Restore</legend>
            {TOOLS.map(([name, label]) => (
              <label key={name}>
                <input
                  type="radio"
                  name="tool"
                  checked={tool.value === name}
                  disabled={run.value !== null}
                  onChange={() => {
                    tool.value = name;
                    if (name === 'none') mark(photo.id, { ...marks, regions: [], strokes: [] });
                  }}
                />
                <span>{label}</span>
              </label>
            ))}
          </fieldset>
          {tool.value === 'brush' && (
            <label class="small brush">
              Brush
              <input
                type="range"
                min="1"
                max="25"
                value={size.value}
                onInput={(event) => {
                  size.value = Number(event.currentTarget.value);
                }}
              />
            </label>
          )}
          {isMarked && (
            <button type="button" class="small" onClick={() => mark(photo.id, { ...UNMARKED, faces: marks.faces })}>
              <Icon name="undo" />
              Clear
            </button>
          )}
          <Faces photo={photo} />
          {(tool.value !== 'none' || isMarked) && (
            <p class="help">
              {isMarked
                ? 'Only what is marked is restored, and faces that are on, enlarged to the size that the networks want; all else stays as it is, bit for bit.'
                : 'Draw on the photo what is to be restored. Rectangles may also be typed, as the setting region.'}
            </p>
          )}
        </div>
      )}
    </>
  );
}

/** Finds faces, and switches those that were found. */
function Faces({ photo }: { photo: Photo }) {
  const busy = useSignal(false);
  const { faces } = photo.marks;
  const search = async () => {
    busy.value = true;
    await findFaces(photo).catch(tellError);
    busy.value = false;
  };
  if (!faces)
    return (
      <button type="button" class="small" disabled={busy.value} onClick={() => void search()}>
        {busy.value ? 'Looking for faces' : 'Find faces'}
      </button>
    );
  const change = (box: string, on: boolean) =>
    mark(photo.id, { ...photo.marks, faces: faces.map((each) => (each.box === box ? { box, on } : each)) });
  return (
    <fieldset class="faces">
      <legend>{foundInWords(faces.length)}</legend>
      {faces.map(({ box, on }, i) => (
        <label key={box}>
          <input type="checkbox" checked={on} onChange={(event) => change(box, event.currentTarget.checked)} />
          <span>face {i + 1}</span>
        </label>
      ))}
      {faces.length > 0 && (
        <button type="button" class="quiet small" onClick={() => mark(photo.id, { ...photo.marks, faces: null })}>
          <Icon name="close" />
          <span class="sr">Restore no faces by themselves</span>
        </button>
      )}
    </fieldset>
  );
}

function foundInWords(count: number): string {
  if (count === 0) return 'No face was found';
  return count === 1 ? 'A face was found, and is restored by itself too' : `${count} faces were found, and are restored by themselves too`;
}

function Line({ stroke: { points, radius } }: { stroke: Stroke }) {
  const path = points.length > 2 ? points.join(' ') : [...points, points[0] + 0.01, points[1]].join(' ');
  return <polyline points={path} stroke-width={2 * radius} />;
}

function Frame({ box, kind }: { box: string; kind: string }) {
  const found = boxOf(box);
  return found && <rect class={kind} {...found} />;
}

/** From two corners; null where it has no pixels. */
function rectangle([x0, y0, x1, y1]: readonly number[]): string | null {
  const [width, height] = [Math.abs(x1 - x0), Math.abs(y1 - y0)];
  return width > 0 && height > 0 ? [Math.min(x0, x1), Math.min(y0, y1), width, height].join(',') : null;
}
