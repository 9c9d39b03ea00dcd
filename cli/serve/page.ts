/** The server's page: photos are sent, the server restores them, and the results come back. It asks nothing of other hosts. */
import { createHash } from 'node:crypto';
import type { Context } from 'hono';

export function servePage(context: Context): Response {
  for (const [name, value] of Object.entries(HEADERS)) context.header(name, value);
  return context.html(PAGE);
}

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.3rem; margin: 0; }
#drop { display: block; border: 2px dashed var(--line); border-radius: .5rem; margin: 1rem 0; padding: 2rem 1rem; text-align: center; cursor: pointer; }
#drop:focus-within, #drop.over { border-color: Highlight; }
#drop input { position: absolute; opacity: 0; width: 1px; }
fieldset { border: 0; display: flex; flex-wrap: wrap; gap: .75rem; margin: 0; padding: 0; }
label.field { display: flex; flex-direction: column; font-size: .85rem; flex: 1 1 9rem; }
label.field.wide { flex-basis: 100%; }
input, select, button { font: inherit; padding: .4rem .6rem; min-height: 2.5rem; box-sizing: border-box; }
ul { list-style: none; margin: 1rem 0; padding: 0; }
li { border-top: 1px solid var(--line); padding: .75rem 0; display: grid; grid-template-columns: 1fr auto; gap: .25rem 1rem; align-items: center; }
li .name { overflow-wrap: anywhere; font-weight: 600; }
li progress { width: 100%; }
li .said, li img { grid-column: 1 / -1; max-width: 100%; }
#error { color: #c22; min-height: 1.5em; }
`;

const SCRIPT = `
'use strict';
const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.has('token')) { sessionStorage.token = fragment.get('token'); history.replaceState(null, '', location.pathname); }
const $ = (id) => document.getElementById(id);
const ask = async (path, options = {}) => {
  const headers = { ...options.headers };
  if (sessionStorage.token) headers.authorization = 'Bearer ' + sessionStorage.token;
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) {
    const token = prompt('The token of this server, which it printed when it started:');
    if (token) { sessionStorage.token = token; return ask(path, options); }
  }
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error || response.statusText);
  return response;
};
const fail = (error) => { $('error').textContent = error.message; };
const items = new Map();
const shownJobs = $('jobs');
const time = (s) => s == null ? '' : s < 90 ? Math.ceil(s) + ' s left' : Math.ceil(s / 60) + ' min left';
function show(job) {
  let item = items.get(job.id);
  if (!item) {
    item = document.createElement('li');
    item.innerHTML = '<span class="name"></span><span class="do"></span><span class="said" role="status"></span>';
    item.querySelector('.name').textContent = job.name;
    items.set(job.id, item);
    shownJobs.prepend(item);
  }
  if (item.dataset.state === job.state && job.state !== 'running' && job.state !== 'queued') return;
  item.dataset.state = job.state;
  const said = item.querySelector('.said'), acts = item.querySelector('.do');
  acts.replaceChildren();
  const act = (text, what) => { const b = document.createElement('button'); b.textContent = text; b.onclick = () => what().catch(fail); acts.append(b); };
  if (job.state === 'queued') said.textContent = job.ahead ? job.ahead + ' before it' : 'next';
  if (job.state === 'running') {
    const bar = document.createElement('progress');
    if (job.progress) bar.value = job.progress.share;
    said.replaceChildren(bar, document.createTextNode(job.progress ? ' ' + job.progress.stage + ' ' + time(job.progress.secondsLeft) : ''));
  }
  if (job.state === 'failed') said.textContent = job.error;
  if (job.state === 'cancelled') said.textContent = 'cancelled';
  if (job.state === 'queued' || job.state === 'running') act('Cancel', () => ask('/api/jobs/' + job.id + '/cancel', { method: 'POST' }));
  else act('Remove', async () => { await ask('/api/jobs/' + job.id, { method: 'DELETE' }); item.remove(); items.delete(job.id); });
  if (job.state === 'done') {
    said.textContent = job.result.width + ' × ' + job.result.height + ', ' + Math.round(job.result.seconds) + ' s';
    act('Show', async () => {
      const old = item.querySelector('img');
      if (old) { URL.revokeObjectURL(old.src); return old.remove(); }
      const img = document.createElement('img');
      img.alt = job.name + ', restored';
      img.src = URL.createObjectURL(await (await ask('/api/jobs/' + job.id + '/result')).blob());
      item.append(img);
    });
    act('Save', async () => {
      const a = document.createElement('a');
      a.href = URL.createObjectURL(await (await ask('/api/jobs/' + job.id + '/result')).blob());
      a.download = job.name.replace(/\\.[^.]*$/, '') + '.' + job.format;
      a.click();
      setTimeout(() => URL.revokeObjectURL(a.href), 60000);
    });
  }
}
async function follow(id) {
  const response = await ask('/api/jobs/' + id + '/events');
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    text += part.value;
    const events = text.split('\\n\\n');
    text = events.pop();
    for (const event of events) {
      const data = event.split('\\n').filter((line) => line.startsWith('data: ')).map((line) => line.slice(6)).join('');
      if (data) show(JSON.parse(data));
    }
  }
}
async function send(files) {
  $('error').textContent = '';
  const query = new URLSearchParams();
  for (const field of document.querySelectorAll('fieldset [name]')) if (field.value !== '') query.set(field.name, field.value);
  for (const file of files) {
    query.set('name', file.name);
    const job = await (await ask('/api/jobs?' + query, { method: 'POST', body: file, headers: { 'content-type': 'application/octet-stream' } })).json();
    show(job);
    follow(job.id).catch(fail);
  }
}
$('files').onchange = (event) => send([...event.target.files]).catch(fail).finally(() => { event.target.value = ''; });
const drop = $('drop');
for (const name of ['dragover', 'dragleave', 'drop']) drop.addEventListener(name, (event) => {
  event.preventDefault();
  drop.classList.toggle('over', name === 'dragover');
  if (name === 'drop') send([...event.dataTransfer.files]).catch(fail);
});
(async () => {
  const about = await (await ask('/api/about')).json();
  $('about').textContent = about.model + ' on ' + about.adapter;
  const options = await (await ask('/api/options')).json();
  for (const field of document.querySelectorAll('[data-option]')) {
    const option = options[field.name];
    if (!option) { field.parentElement.remove(); continue; }
    field.title = option.help;
    if (option.kind === 'number') { field.type = 'number'; field.step = option.whole ? 1 : 'any'; field.min = option.least; field.max = option.most; }
    if (option.default !== null && option.default !== '') field.placeholder = String(option.default);
  }
  for (const job of (await (await ask('/api/jobs')).json()).jobs) {
    show(job);
    if (job.state === 'queued' || job.state === 'running') follow(job.id).catch(fail);
  }
})().catch(fail);
`;

const field = (name: string, label: string, isWide = false) =>
  `<label class="field${isWide ? ' wide' : ''}">${label}<input name="${name}" data-option></label>`;

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SUPIR</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Restore photos</h1>
<div id="about"></div>
<label id="drop">Choose photos, or drop them here<input id="files" type="file" multiple accept="image/*,.heic,.tif,.tiff"></label>
<fieldset>
<legend hidden>Settings of the next photos</legend>
${field('prompt', 'What they show', true)}${field('upscale', 'Enlarge')}${field('steps', 'Steps')}${field('seed', 'Seed')}
<label class="field">Format<select name="format"><option>png</option><option>jpg</option><option>webp</option><option>tif</option><option>avif</option></select></label>
</fieldset>
<div id="error" role="alert"></div>
<ul id="jobs" aria-label="Photos"></ul>
<script>${SCRIPT}</script>
</body>
</html>
`;

const digest = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

const HEADERS = {
  'content-security-policy': `default-src 'none'; connect-src 'self'; img-src blob:; style-src ${digest(STYLE)}; script-src ${digest(SCRIPT)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  'cache-control': 'no-store',
};
