/** Compare: before and after under one slider, results side by side, and where they differ; all panes zoom and move in lock-step. */
import { useSignal } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';
import type { FidelityReport } from '../restore/report.ts';
import { Choice } from './choice.tsx';
import { Icon } from './icon.tsx';
import { tellError } from './notices.ts';
import { Pane, ZoomButtons } from './pane.tsx';
import { downloadResult, type Result, removeResult, results } from './photos.ts';
import { engine } from './session.ts';
import { seconds } from './words.ts';
import { Zoom } from './zoom.ts';

const MODES = { slider: 'Slider', sides: 'Side by side', change: 'What changed' } as const;
type Mode = keyof typeof MODES;
const BEFORE = { photo: 'Photo', stage1: 'Stage 1' } as const;

export function CompareView() {
  const zoom = useMemo(() => new Zoom(), []);
  const mode = useSignal<Mode>('slider');
  const before = useSignal<keyof typeof BEFORE>('photo');
  const shownIds = useSignal<number[]>([]);
  const all = results.value;
  if (all.length === 0) {
    return (
      <div class="card empty">
        <Icon name="compare" />
        <h1>Nothing to compare yet</h1>
        <p class="dim">
          Results of restorations appear here: before and after under a slider, several side by side, and a map of what was changed.
        </p>
        <a class="button primary" href="#restore">
          Restore a photo
        </a>
      </div>
    );
  }
  const picked = all.filter(({ id }) => shownIds.value.includes(id));
  const shown = picked.length > 0 ? picked : [all[all.length - 1]];
  const toggle = (id: number) => {
    const now = shown.map((result) => result.id);
    shownIds.value = now.includes(id) ? now.filter((each) => each !== id) : [...now, id];
  };
  const last = shown[shown.length - 1];
  return (
    <div class="compare">
      <div class="toolbar">
        <h1>Compare</h1>
        <Choice name="mode" label="Show" options={MODES} value={mode.value} onChange={(value) => (mode.value = value)} />
        {mode.value !== 'sides' && (
          <Choice name="before" label="Before" options={BEFORE} value={before.value} onChange={(value) => (before.value = value)} />
        )}
        <ZoomButtons zoom={zoom} />
      </div>
      <div class={`panes of-${Math.min(3, mode.value === 'sides' ? shown.length + 2 : shown.length)}`}>
        {mode.value === 'sides' && (
          <>
            <Pane zoom={zoom} after={{ bitmap: last.photo, label: 'Photo' }} title={last.name} />
            <Pane zoom={zoom} after={{ bitmap: last.stage1, label: 'Stage 1' }} title="damage removed, nothing invented" />
          </>
        )}
        {shown.map((result) =>
          mode.value === 'change' ? (
            <Changed key={result.id} result={result} zoom={zoom} to={before.value} />
          ) : (
            <Pane
              key={result.id}
              zoom={zoom}
              before={mode.value === 'slider' ? { bitmap: result[before.value], label: BEFORE[before.value] } : null}
              after={{ bitmap: result.restored, label: 'Restored' }}
              title={result.label}
            />
          ),
        )}
      </div>
      <section class="card" aria-label="Results">
        <h2>Results</h2>
        <ul class="results">
          {all.map((result) => (
            <li key={result.id}>
              <label class="check">
                <input type="checkbox" checked={shown.includes(result)} onChange={() => toggle(result.id)} />
                <span>
                  <strong>{result.name}</strong>{' '}
                  <span class="dim">
                    {result.width} x {result.height}, {result.label}, {seconds(result.seconds)}
                  </span>
                </span>
              </label>
              <div class="buttons">
                <button type="button" onClick={() => downloadResult(result)}>
                  <Icon name="download" />
                  PNG
                  <span class="sr">
                    {' '}
                    of {result.name}, {result.label}
                  </span>
                </button>
                <button type="button" class="quiet" onClick={() => removeResult(result.id)}>
                  <Icon name="close" />
                  <span class="sr">
                    Remove {result.name}, {result.label}
                  </span>
                </button>
              </div>
            </li>
          ))}
        </ul>
        <p class="dim small">Every PNG carries its recipe: drop it on this page, and its settings are back.</p>
      </section>
      <Fidelity result={last} />
    </div>
  );
}

/** The map of differences, over the result. */
function Changed({ result, zoom, to }: { result: Result; zoom: Zoom; to: 'photo' | 'stage1' }) {
  const map = useSignal<ImageBitmap | null>(null);
  useEffect(() => {
    let isAsked = true;
    map.value = null;
    engine()
      .call('difference', { id: result.id, to })
      .then((bitmap) => {
        if (isAsked) map.value = bitmap;
      }, tellError);
    return () => {
      isAsked = false;
    };
  }, [map, result.id, to]);
  const label = `Change to ${to === 'photo' ? 'the photo' : 'stage 1'}`;
  if (!map.value) return <p class="dim">Comparing</p>;
  return (
    <Pane
      zoom={zoom}
      before={{ bitmap: map.value, label }}
      after={{ bitmap: result.restored, label: 'Restored' }}
      title={`${result.label}. Black: no change, white: 64 levels of 255 and more`}
    />
  );
}

/** How far the result is from the photo, in numbers. */
function Fidelity({ result }: { result: Result }) {
  const report = useSignal<{ id: number; report: FidelityReport } | null>(null);
  const ask = () =>
    engine()
      .call('fidelity', result.id)
      .then((found) => {
        report.value = { id: result.id, report: found };
      }, tellError);
  const found = report.value?.id === result.id ? report.value.report : null;
  return (
    <section class="card" aria-label="Fidelity">
      <div class="row">
        <h2>Fidelity</h2>
        {!found && (
          <button type="button" onClick={() => void ask()}>
            Measure
          </button>
        )}
      </div>
      <p class="dim small">
        Degraded back to the photo's sharpness, the result should be the photo again. What differs beyond that, the model changed.
      </p>
      {found && (
        <table>
          <thead>
            <tr>
              <th scope="col">against the photo</th>
              <th scope="col">PSNR dB</th>
              <th scope="col">SSIM</th>
              <th scope="col">mean change</th>
            </tr>
          </thead>
          <tbody>
            <tr>
              <th scope="row">stage 1</th>
              <td>{found.consistency.stage1.psnr?.toFixed(2) ?? 'equal'}</td>
              <td>{found.consistency.stage1.ssim?.toFixed(3) ?? '-'}</td>
              <td>-</td>
            </tr>
            <tr>
              <th scope="row">restored</th>
              <td>{found.consistency.result.psnr?.toFixed(2) ?? 'equal'}</td>
              <td>{found.consistency.result.ssim?.toFixed(3) ?? '-'}</td>
              <td>{found.change.photo.mean.toFixed(1)} levels</td>
            </tr>
          </tbody>
        </table>
      )}
    </section>
  );
}
