/** Adapter: what computes here, what was chosen for it, how fast it is, and what to do where nothing does. */
import { CheckCard } from './check-card.tsx';
import { Choice } from './choice.tsx';
import { measure, measured, measuring } from './measuring.ts';
import { run } from './photos.ts';
import type { AdapterReport } from './protocol.ts';
import { adapter, adapterProblem, changePower, changeSchedule, model, power, schedule } from './session.ts';
import { helpFor } from './webgpu-help.ts';
import { bytes } from './words.ts';

const FEATURES: Record<string, string> = {
  'shader-f16': 'arithmetic with 16-bit floats; results do not depend on it',
  subgroups: 'threads that hand values to one another without memory',
  'timestamp-query': 'times of single kernels on the GPU',
};

const SCHEDULES = {
  subgroup: 'subgroup: operands are handed round by broadcasts, without workgroup memory, which suits processors',
  tiled: 'tiled: many threads share tiles in workgroup memory, which suits GPUs',
  matrix: 'matrix: as tiled, with matrix units for matrix products and convolutions, an experiment of Chromium',
};

export function AdapterView() {
  const facts = adapter.value;
  return (
    <div class="adapter">
      <h1>Adapter</h1>
      {adapterProblem.value && (
        <section class="card problem-card" aria-label="Problem">
          <h2>Nothing can be computed here</h2>
          <p>{adapterProblem.value}</p>
          {(schedule.value !== 'auto' || power.value !== 'high-performance') && <Schedule />}
        </section>
      )}
      {!facts && !adapterProblem.value && <p class="dim">Asking the browser for a GPU</p>}
      {facts && <Facts facts={facts} />}
      {facts && <BenchmarkCard />}
      {facts && <CheckCard />}
      <Instructions open={adapterProblem.value !== null} />
    </div>
  );
}

function Facts({ facts }: { facts: AdapterReport }) {
  const [smallest, largest] = facts.subgroupSizes;
  return (
    <section class="card" aria-label="Facts">
      <div class="row">
        <h2>{facts.name}</h2>
        <span class={`badge ${facts.software ? 'slow' : 'good'}`}>
          {facts.software ? 'software: the processor computes, slowly' : 'GPU'}
        </span>
      </div>
      <dl class="facts">
        <dt>Vendor, architecture</dt>
        <dd>{[facts.vendor, facts.architecture].filter(Boolean).join(', ') || 'not told by the browser'}</dd>
        <dt>Schedule of matrix products, convolutions and attention</dt>
        <dd>{SCHEDULES[facts.schedule]}</dd>
        <dt>GPU memory, where you do not say how much may be used</dt>
        <dd>
          about {bytes(facts.memory.bytes)}: {facts.memory.why}
        </dd>
        <dt>Subgroups</dt>
        <dd>{smallest ? (smallest === largest ? `${smallest} lanes` : `${smallest} to ${largest} lanes`) : 'size not told'}</dd>
      </dl>
      <Schedule />
      <h3>Features</h3>
      <ul class="features">
        {Object.entries(FEATURES).map(([name, what]) => {
          const has = facts.features.includes(name);
          return (
            <li key={name}>
              <span class={`badge ${has ? 'good' : 'none'}`}>{has ? 'yes' : 'no'}</span>
              <span>
                <code>{name}</code> <span class="dim">{what}</span>
              </span>
            </li>
          );
        })}
      </ul>
      <h3>Limits</h3>
      <dl class="facts">
        {Object.entries(facts.limits).map(([name, value]) => (
          <>
            <dt>
              <code>{name}</code>
            </dt>
            <dd>{name.endsWith('Size') && value > 4096 ? bytes(value) : value.toLocaleString('en')}</dd>
          </>
        ))}
      </dl>
    </section>
  );
}

function Schedule() {
  return (
    <>
      <Choice
        name="schedule"
        label="Schedule"
        options={{ auto: 'by the adapter', subgroup: 'subgroup', tiled: 'tiled', matrix: 'matrix (experimental)' }}
        value={schedule.value}
        impossible={adapter.value?.impossible}
        onChange={(value) => void changeSchedule(value)}
      />
      <Choice
        name="power"
        label="Where there are two GPUs"
        options={{ 'high-performance': 'the fast one', 'low-power': 'the one that saves power' }}
        value={power.value}
        onChange={(value) => void changePower(value)}
      />
      {Object.entries(adapter.value?.impossible ?? {}).map(([name, why]) => (
        <p key={name} class="help">
          {why}
        </p>
      ))}
    </>
  );
}

function BenchmarkCard() {
  const result = measured;
  const most = Math.max(...(result.value?.rows.map(({ gflops }) => gflops) ?? [1]));
  return (
    <section class="card" aria-label="Benchmark">
      <div class="row">
        <h2>Benchmark</h2>
        <button type="button" disabled={measuring.value || run.value !== null || !model.value} onClick={() => void measure()}>
          {measuring.value ? 'Measuring' : 'Measure'}
        </button>
      </div>
      <p class="dim small">The three operations that a restoration consists of, at a small size; a few seconds, compiling included.</p>
      {result.value && (
        <>
          <ul class="bars">
            {result.value.rows.map(({ what, gflops, ms }) => (
              <li key={what}>
                <span>{what}</span>
                <span class="bar">
                  <span style={{ width: `${(100 * gflops) / most}%` }} />
                </span>
                <span class="number">
                  {gflops.toPrecision(3)} GFLOP/s <span class="dim">{ms.toFixed(2)} ms</span>
                </span>
              </li>
            ))}
          </ul>
          <p class="dim small">Compiled in {(result.value.compileMs / 1000).toFixed(1)} s.</p>
        </>
      )}
    </section>
  );
}

function Instructions({ open }: { open: boolean }) {
  return (
    <details class="card" open={open}>
      <summary>Where WebGPU is missing</summary>
      <p class="small dim">The page needs WebGPU and must be served over https or from localhost. What to do, yours first:</p>
      <dl class="facts">
        {helpFor(navigator.userAgent).map(({ where, steps }) => (
          <>
            <dt>{where}</dt>
            <dd>{steps}</dd>
          </>
        ))}
      </dl>
    </details>
  );
}
