/** Headless Chromium for tests: the one packed in `@sparticuz/chromium`, or the executable that CHROMIUM names; its WebGPU computes with SwiftShader. */
import { type Browser, chromium } from 'playwright-core';
import { unpackChromium } from '../../scripts/chromium-pack.ts';

/** Whether there is a Chromium for this machine. */
export const hasChromium = Boolean(process.env.CHROMIUM) || (process.platform === 'linux' && process.arch === 'x64');

export function launchChromium(): Promise<Browser> {
  // Pages are our own, so no sandbox, which root and containers lack; software drivers may compile longer than the GPU watchdog waits.
  const args = ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--disable-gpu-watchdog'];
  if (process.env.CHROMIUM) return chromium.launch({ executablePath: process.env.CHROMIUM, args });
  const { executable, libraries } = unpackChromium();
  return chromium.launch({
    executablePath: executable,
    args,
    env: { ...(process.env as Record<string, string>), LD_LIBRARY_PATH: libraries },
  });
}
