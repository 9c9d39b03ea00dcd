/** What the next restoration will take: size, memory and time. */
import { signal, useSignal, useSignalEffect } from '@preact/signals';
import type { Forecast } from '../restore/forecast.ts';
import { chosen, given, memoryBytes } from './choices.ts';
import { measure, measuring } from './measuring.ts';
import { words } from './messages.ts';
import { givenFor, run, selected } from './photos.ts';
import { adapter, engine, model } from './session.ts';
import { speedsOf } from './throughput.ts';
import { bytes, seconds } from './words.ts';

/** Milliseconds of quiet before a forecast is asked for. */
const QUIET = 250;

/** The newest, and of which size of photo; it stays while another view is shown. */
const forecasts = signal<{ size: string; forecast: Forecast } | null>(null);

/** Until something has run here, its speed can be measured. */
function Measure() {
  return (
    <button type="button" class="small" disabled={measuring.value || run.value !== null || !model.value} onClick={() => void measure()}>
      {measuring.value ? 'Measuring' : 'Measure'}
    </button>
  );
}

export function ForecastStrip() {
  const problem = useSignal<string | null>(null);
  useSignalEffect(() => {
    const photo = selected.value;
    const { width = 0, height = 0 } = photo ?? {};
    const asked = {
      width,
      height,
      given: photo ? givenFor(photo) : given.value,
      strokes: photo?.marks.strokes ?? [],
      memory: memoryBytes.value,
      speeds: speedsOf(adapter.value?.name, model.value?.report.config.name),
    };
    const bad = chosen.value.problem;
    problem.value = bad;
    if (!model.value || bad || width === 0) return;
    const timer = setTimeout(async () => {
      try {
        forecasts.value = { size: `${width} x ${height}`, forecast: await engine().call('forecast', asked) };
      } catch (error) {
        problem.value = words(error as Error);
      }
    }, QUIET);
    return () => clearTimeout(timer);
  });

  const photo = selected.value;
  const found = photo && forecasts.value?.size === `${photo.width} x ${photo.height}` ? forecasts.value.forecast : null;
  const time = found?.seconds ?? null;
  return (
    <section class="card forecast" aria-label="Forecast">
      {!photo && <p class="dim small">What a photo will take is told here once there is one.</p>}
      <dl hidden={!photo}>
        <div>
          <dt>Result</dt>
          <dd>{found ? `${found.result.width} x ${found.result.height}` : '...'}</dd>
        </div>
        <div>
          <dt>GPU memory</dt>
          <dd>{found ? bytes(found.peakGpuBytes) : '...'}</dd>
        </div>
        <div>
          <dt>Time</dt>
          <dd>{time === null ? <Measure /> : `about ${seconds(time)}`}</dd>
        </div>
      </dl>
      {found?.why.map((note) => (
        <p key={note} class="dim small">
          {note}
        </p>
      ))}
      {problem.value && (
        <p class="problem" role="alert">
          {problem.value}
        </p>
      )}
    </section>
  );
}
