#!/usr/bin/env bash
# Dawn's Node binding (npm webgpu) holds a listener of 'uncapturederror', and what it closes over, for as long as the process lives: a device that was
# destroyed and that nobody else refers to stays unless the listener was removed first. In browsers an event target's listeners go
# with the target.
#
# Seen with npm webgpu 0.6.2 on Node 20.20.2, mesa-vulkan-drivers 25.0.7-2~bpo12+1, 20 devices each, opened, destroyed and dropped one after the other:
#   without a listener                          20 of 20 collected
#   listener added, never removed               0 of 20 collected
#   listener added and removed before destroy() 20 of 20 collected
#
# Needs any Vulkan driver. Fails if the behaviour changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --no-audit --no-fund --silent webgpu@0.6.2
cat > run.mjs <<'JS'
import { create, globals } from 'webgpu';
Object.assign(globalThis, globals);
const gpu = create([]);
const COUNT = 20;
const pause = () => new Promise((done) => setTimeout(done, 30));
async function collected(listen, remove) {
  let gone = 0;
  const registry = new FinalizationRegistry(() => gone++);
  for (let i = 0; i < COUNT; i++) {
    await (async () => {
      const adapter = await gpu.requestAdapter();
      if (!adapter) { console.log('no adapter'); process.exit(2); }
      const device = await adapter.requestDevice();
      registry.register(device);
      const seen = { device };
      const listener = () => seen.device.label;
      if (listen) device.addEventListener('uncapturederror', listener);
      if (listen && remove) device.removeEventListener('uncapturederror', listener);
      device.destroy();
    })();
    await pause();
    gc();
  }
  for (let i = 0; i < 10; i++) { await pause(); gc(); }
  return gone;
}
const without = await collected(false, false);
const removed = await collected(true, true);
const kept = await collected(true, false);
console.log(`without a listener: ${without} of ${COUNT} collected`);
console.log(`listener removed before destroy(): ${removed} of ${COUNT} collected`);
console.log(`listener left: ${kept} of ${COUNT} collected`);
const asSeen = without >= COUNT - 2 && removed >= COUNT - 2 && kept <= 2;
console.log(asSeen ? 'as seen' : 'CHANGED');
process.exit(asSeen ? 0 : 1);
JS
node --expose-gc run.mjs 2>/dev/null
