/**
 * A page that compares a photo with its restoration: one HTML file with its pictures inside, which asks nothing of the network. The slider is a
 * range input laid over the pictures, so that mouse, touch, keyboard and screen reader work as everywhere.
 */
import { encodePng } from '../image/encode.ts';
import type { Image } from '../image/image.ts';

export interface Compared {
  title: string;
  /** What was done, for the line below the pictures. */
  caption: string;
  /** All of one size; alpha is left out. */
  photo: Image;
  stage1: Image;
  restored: Image;
}

/** The whole HTML file. */
export function comparePage({ title, caption, photo, stage1, restored }: Compared): string {
  const { width, height } = restored;
  const picture = (id: string, image: Image, alt: string) =>
    `<img id="${id}" src="${dataUri(image)}" width="${width}" height="${height}" alt="${alt}" draggable="false">`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${escapeHtml(title)}: before and after</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
<div class="controls">
<fieldset>
<legend>Before</legend>
<label><input type="radio" name="before" value="photo" checked> Photo</label>
<label><input type="radio" name="before" value="stage1"> Stage 1: cleaned, nothing invented</label>
</fieldset>
<label><input type="checkbox" id="pixels"> Actual pixels</label>
</div>
<div class="scroll" id="scroll">
<div class="compare" id="compare" style="--width: ${width}px; --ratio: ${width / height}">
${picture('after', restored, 'Restored photo')}
<div class="before" id="before">
${picture('photo', photo, 'Photo before the restoration')}
${picture('stage1', stage1, 'Stage-1 image: degradation removed, nothing invented')}
</div>
<div class="line" aria-hidden="true"></div>
<span class="tag left" id="tag" aria-hidden="true">Photo</span><span class="tag right" aria-hidden="true">Restored</span>
<input type="range" id="slider" min="0" max="100" step="0.1" value="50" aria-label="Share of the picture that shows the state before the restoration">
</div>
</div>
<p>${escapeHtml(caption)}</p>
<p class="hint">Drag, or use the arrow keys; Home and End show one picture alone.</p>
</main>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

const STYLE = `
:root { color-scheme: light dark; --back: #fafafa; --text: #1b1b1b; --dim: #595959; --focus: #0b57d0; }
@media (prefers-color-scheme: dark) { :root { --back: #141414; --text: #ededed; --dim: #a6a6a6; --focus: #8ab4f8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1600px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.25rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
.controls { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: center; margin-bottom: .75rem; }
fieldset { border: 0; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
legend { float: left; margin-right: 1rem; color: var(--dim); padding: 0; line-height: 1.75rem; }
.controls label { display: inline-flex; align-items: center; gap: .4rem; min-height: 1.75rem; }
.compare { position: relative; width: min(100%, max(var(--width), 45rem), 85vh * var(--ratio)); --at: 50%; border-radius: 6px; overflow: hidden; user-select: none; }
.compare:has(input:focus-visible) { outline: 3px solid var(--focus); outline-offset: 2px; }
.compare img { display: block; width: 100%; height: auto; pointer-events: none; }
.before { position: absolute; inset: 0; clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.before img { position: absolute; inset: 0; visibility: hidden; }
.before img.chosen { visibility: visible; }
.line { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px; background: #fff; box-shadow: 0 0 4px #000; pointer-events: none; }
.line::after { content: '\\2194'; position: absolute; top: 50%; left: 50%; width: 2.25rem; height: 2.25rem; margin: -1.125rem; border-radius: 50%; background: #fff; color: #111; box-shadow: 0 1px 6px #0009; font: 1.25rem/2.25rem system-ui, sans-serif; text-align: center; }
.tag { position: absolute; top: .5rem; padding: .1rem .5rem; border-radius: 4px; background: #000b; color: #fff; font-size: .8rem; pointer-events: none; }
.left { left: .5rem; } .right { right: .5rem; }
#slider { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; touch-action: pan-y; appearance: none; }
#slider::-webkit-slider-thumb { appearance: none; width: 1px; }
#slider::-moz-range-thumb { border: 0; width: 1px; }
.actual .compare { width: var(--width); max-width: none; }
.actual .compare img { image-rendering: pixelated; }
.scroll { overflow-x: auto; padding: 5px; margin: -5px; }
p { margin: .75rem 0 0; overflow-wrap: anywhere; } .hint { color: var(--dim); font-size: .875rem; margin-top: .25rem; }
`;

const SCRIPT = `
const get = (id) => document.getElementById(id);
const [compare, slider] = [get('compare'), get('slider')];
const show = () => {
  compare.style.setProperty('--at', slider.value + '%');
  slider.setAttribute('aria-valuetext', Math.round(slider.value) + ' percent before, ' + Math.round(100 - slider.value) + ' percent restored');
};
const choose = () => {
  const chosen = document.querySelector('input[name=before]:checked').value;
  for (const id of ['photo', 'stage1']) { get(id).classList.toggle('chosen', id === chosen); get(id).ariaHidden = String(id !== chosen); }
  get('tag').textContent = chosen === 'photo' ? 'Photo' : 'Stage 1';
};
// Some touch browsers move a range input only by its thumb; here the whole picture is the handle.
const follow = (event) => {
  const box = compare.getBoundingClientRect();
  slider.value = Math.min(100, Math.max(0, ((event.clientX - box.left) / box.width) * 100));
  show();
};
let dragging = false;
slider.addEventListener('pointerdown', (event) => { dragging = true; slider.setPointerCapture(event.pointerId); follow(event); });
slider.addEventListener('pointermove', (event) => { if (dragging) follow(event); });
for (const name of ['pointerup', 'pointercancel']) slider.addEventListener(name, () => { dragging = false; });
slider.addEventListener('keydown', (event) => {
  const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
  if (!way) return;
  event.preventDefault();
  slider.value = Number(slider.value) + way * (event.shiftKey ? 10 : 2);
  show();
});
slider.addEventListener('input', show);
for (const radio of document.querySelectorAll('input[name=before]')) radio.addEventListener('change', choose);
get('pixels').addEventListener('change', (event) => get('scroll').classList.toggle('actual', event.target.checked));
show();
choose();
`;

function dataUri(image: Image): string {
  return `data:image/png;base64,${Buffer.from(encodePng({ ...image, alpha: undefined })).toString('base64')}`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}
