/**
 * Skips are counted out loud: a test that cannot run on this adapter or host says why and returns,
 *   `if (!device.facts.features.has('shader-f16')) return skip('the adapter has no shader-f16');`
 * The harness (runner.ts) counts it as skipped, not passed, and prints the reasons.
 */
export const skips: string[] = [];

export function skip(reason: string): void {
  skips.push(reason);
  if (!('UVU_DEFER' in globalThis)) console.log(`  skipped: ${reason}`);
}
