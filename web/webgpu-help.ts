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
      'Open chrome://flags, switch on "Unsafe WebGPU Support" and "Vulkan", and start the browser again. Mesa 23 or newer, or NVIDIA 535 or newer, is needed.',
  },
  { where: 'Chrome on Android', steps: 'On since version 121 on Android 12 with GPUs of Qualcomm and ARM.' },
  {
    where: 'Firefox on Windows and macOS',
    steps: 'On since version 141 (Windows) and 145 (Mac with Apple silicon). In older ones set dom.webgpu.enabled to true in about:config.',
  },
  { where: 'Firefox on Linux', steps: 'Set dom.webgpu.enabled to true in about:config; Firefox Nightly has it on.' },
  { where: 'Safari', steps: 'On since version 26 (macOS 26, iOS 26, iPadOS 26). Older ones: Settings, Feature Flags, WebGPU.' },
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
