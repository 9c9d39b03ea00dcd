/** What the stages of every method that run half an autoencoder share: how they are planned, and what is said where tiles change the picture. */

import type { Shape } from '../core/tensor.ts';
import type { Device } from '../gpu/device.ts';
import type { RestoreEvents, StagePlan } from './stage.ts';
import { type BuildGraph, forecastAutoencoder, type Half, type TilingChoice, type TilingEvents, type VaeTiling } from './tiled-vae.ts';

/** Throws as `forecastAutoencoder`. */
export function autoencoderPlan(device: Device, half: Half, graph: BuildGraph, shape: Shape, tiling: VaeTiling, budget: number): StagePlan {
  const { how, weighed, hostBytes, programs } = forecastAutoencoder(device, half, graph, shape, tiling, budget);
  return { tiling: how, weighed, parts: programs.reduce((sum, { runs }) => sum + runs, 0), hostBytes, programs };
}

/** How it may be stopped, and a word where `auto` takes tiles that change the picture. */
export function tilingEvents({ signal, warning }: Pick<RestoreEvents, 'signal' | 'warning'>, stage: string): TilingEvents {
  const onChoice = async ({ how, weighed }: TilingChoice) => {
    if (how !== 'published' || !weighed) return;
    await warning?.({
      code: 'published-tiles',
      option: 'vaeTiling',
      message: `The picture is so large that the autoencoder takes the published program's approximate tiles in the stage '${stage}': exact ones, with the numbers of the whole, would compute ${Math.round(weighed.exact)} GFLOP instead of ${Math.round(weighed.published)}. They can be asked for.`,
      values: { stage, ...weighed },
    });
  };
  return { signal, onChoice };
}
