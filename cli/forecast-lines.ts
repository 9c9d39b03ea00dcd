/** A forecast as text: what is needed, why it is done so, and a line a stage. */
import type { Forecast, StageForecast } from '../restore/forecast.ts';
import { duration } from './progress.ts';

/** `title`: the photo. */
export function forecastLines(title: string, forecast: Forecast): string[] {
  const { working, why, peakGpuBytes, peakHostBytes, budget, readBytes, readPerStep, seconds, stages } = forecast;
  const rows = stages.map(row);
  return [
    `${title}: ${working.width}x${working.height} pixels at work`,
    ...why,
    `GPU memory ${gb(peakGpuBytes)} GB at most of ${gb(budget)} GB, process ${gb(peakHostBytes)} GB`,
    `Weights read: ${gb(readBytes)} GB in all, ${gb(readPerStep)} GB in every step`,
    ...(seconds === null ? [] : [`About ${duration(seconds * 1000)} by this adapter's speed at a matmul`]),
    `${'stage'.padEnd(9)} ${'how'.padEnd(9)}   runs   GPU MB  weights MB  activations MB    host MB  read/run MB     GFLOP`,
    ...rows,
  ];
}

function row({ stage, tiling, runs, gpuBytes, weights, activations, hostBytes, streamed, gflop }: StageForecast): string {
  const mb = (bytes: number, width: number) => (bytes / 1e6).toFixed(1).padStart(width);
  return [
    stage.padEnd(9),
    tiling.padEnd(9),
    String(runs).padStart(6),
    mb(gpuBytes, 8),
    mb(weights, 11),
    mb(activations, 15),
    mb(hostBytes, 10),
    mb(streamed, 12),
    gflop.toFixed(0).padStart(9),
  ].join(' ');
}

const gb = (bytes: number): string => (bytes / 1e9).toFixed(bytes < 1e9 ? 3 : 1);
