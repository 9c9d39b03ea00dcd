/** What to do where a page has no WebGPU, by browser and system. (State of browsers: https://github.com/gpuweb/gpuweb/wiki/Implementation-Status) */
export interface Help {
  where: string;
  steps: string;
}

export const HELP: readonly Help[] = [
  {
    where: 'Chrome, Edge, Opera on Windows and macOS',
    steps: 'On since version 113. Update the browser, and switch on "Use graphics acceleration when available" under Settings, System.',
  },
  {
    where: 'Chrome on Linux',
    steps:
      'On since version 144 with Intel graphics of the 12th generation or newer, and since 147 with NVIDIA, driver 535.183 or newer. Elsewhere, such as with AMD, open chrome://flags, switch on "Unsafe WebGPU Support" and "Vulkan", and start the browser again.',
  },
  {
    where: 'Chrome on Android',
    steps:
      'On since version 121 on Android 12 with GPUs of Qualcomm, ARM and Intel, and since 139 on Android 16 with those of Imagination.',
  },
  {
    where: 'Firefox on Windows and macOS',
    steps:
      'On since version 141 on Windows, and on Macs with Apple silicon since 145 (macOS 26) and 147 (older ones). Elsewhere set dom.webgpu.enabled to true in about:config.',
  },
  { where: 'Firefox on Linux', steps: 'Not on yet: set dom.webgpu.enabled to true in about:config. Firefox Nightly has it on.' },
  { where: 'Safari', steps: 'On since version 26 of Safari, macOS, iOS and iPadOS. In older ones: Settings, Feature Flags, WebGPU.' },
  {
    where: 'Any browser, no GPU',
    steps: 'Chrome started with --enable-unsafe-webgpu --use-webgpu-adapter=swiftshader computes on the processor: slow, but it works.',
  },
];

/** The rows for this browser first. */
export function helpFor(agent: string): readonly Help[] {
  const words = [/firefox/i.test(agent) ? 'Firefox' : /chrome|edg|opr/i.test(agent) ? 'Chrome' : 'Safari'];
  words.push(/android/i.test(agent) ? 'Android' : /linux/i.test(agent) ? 'Linux' : /mac/i.test(agent) ? 'mac' : 'Windows');
  const score = ({ where }: Help) => words.filter((word) => where.includes(word)).length;
  return [...HELP].sort((a, b) => score(b) - score(a));
}
