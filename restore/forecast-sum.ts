/** The forecast of a restoration in pieces, which run one after the other. */
import type { Forecast, StageForecast } from './forecast.ts';

const NO_PIXELS = { width: 0, height: 0 };

const NOTHING: Forecast = {
  working: NO_PIXELS,
  result: NO_PIXELS,
  budget: 0,
  budgetFrom: 'estimate',
  residency: 'resident',
  why: ['Nothing is to be restored.'],
  peakGpuBytes: 0,
  peakHostBytes: 0,
  readBytes: 0,
  readPerStep: 0,
  gflop: 0,
  seconds: 0,
  stages: [],
};

/** Sums of what is computed and read, and the most of what is in use at once. */
export function together(forecasts: readonly Forecast[]): Forecast {
  const [first] = forecasts;
  if (forecasts.length === 0) return NOTHING;
  if (forecasts.length === 1) return first;
  const sum = (of: (forecast: Forecast) => number) => forecasts.reduce((total, each) => total + of(each), 0);
  const most = (of: (forecast: Forecast) => number) => Math.max(...forecasts.map(of));
  const largest = [...forecasts].sort((a, b) => b.peakGpuBytes - a.peakGpuBytes)[0];
  const stages = new Map<string, StageForecast>();
  for (const stage of forecasts.flatMap((forecast) => forecast.stages)) {
    const before = stages.get(stage.stage);
    stages.set(stage.stage, before ? added(before, stage) : stage);
  }
  return {
    ...largest,
    working: [...forecasts].sort((a, b) => b.working.width * b.working.height - a.working.width * a.working.height)[0].working,
    budget: first.budget,
    why: [`The photo is restored in ${forecasts.length} pieces, one after the other.`, ...new Set(forecasts.flatMap(({ why }) => why))],
    peakGpuBytes: most(({ peakGpuBytes }) => peakGpuBytes),
    peakHostBytes: most(({ peakHostBytes }) => peakHostBytes),
    readBytes: sum(({ readBytes }) => readBytes),
    readPerStep: most(({ readPerStep }) => readPerStep),
    gflop: sum(({ gflop }) => gflop),
    seconds: forecasts.every(({ seconds }) => seconds !== null) ? sum(({ seconds }) => seconds!) : null,
    stages: [...stages.values()],
  };
}

function added(a: StageForecast, b: StageForecast): StageForecast {
  const most = (of: (stage: StageForecast) => number) => Math.max(of(a), of(b));
  const { ends: _, ...larger } = b.gpuBytes > a.gpuBytes ? b : a;
  return {
    ...larger,
    parts: a.parts + b.parts,
    runs: a.runs + b.runs,
    reusing: a.reusing + b.reusing,
    hostBytes: most(({ hostBytes }) => hostBytes),
    activations: most(({ activations }) => activations),
    weights: most(({ weights }) => weights),
    gpuBytes: most(({ gpuBytes }) => gpuBytes),
    loaded: a.loaded + b.loaded,
    streamed: most(({ streamed }) => streamed),
    read: a.read + b.read,
    gflop: a.gflop + b.gflop,
    seconds: a.seconds === null || b.seconds === null ? null : a.seconds + b.seconds,
  };
}
