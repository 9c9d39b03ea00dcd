// Restores a photo on a machine that runs `supir serve`: node serve-client.mjs http://127.0.0.1:8188 old.jpg new.png upscale=2 steps=30
// Only what Node and browsers have is used. SUPIR_TOKEN holds the server's token, where it needs one.
import { readFile, writeFile } from 'node:fs/promises';
import { basename, extname } from 'node:path';

const [server, photo, output, ...options] = process.argv.slice(2);
const headers = process.env.SUPIR_TOKEN ? { authorization: `Bearer ${process.env.SUPIR_TOKEN}` } : {};

async function ask(path, init = {}) {
  const response = await fetch(new URL(path, server), { headers, ...init });
  if (response.ok) return response;
  throw new Error((await response.json()).error);
}

const query = new URLSearchParams({ name: basename(photo), format: extname(output).slice(1) });
for (const option of options) query.set(...option.split('='));
const sent = await ask(`/api/jobs?${query}`, { method: 'POST', body: await readFile(photo) });
let job = await sent.json();

const events = await ask(`/api/jobs/${job.id}/events`);
let text = '';
for await (const part of events.body.pipeThrough(new TextDecoderStream())) {
  text += part;
  for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
    const data = text.slice(0, end).match(/^data: (.*)$/m);
    if (data) job = JSON.parse(data[1]);
    text = text.slice(end + 2);
    if (job.progress) process.stderr.write(`\r${job.progress.stage} ${Math.round(100 * job.progress.share)} %  `);
  }
}
if (job.state !== 'done') throw new Error(job.error ?? job.state);
await writeFile(output, Buffer.from(await (await ask(`/api/jobs/${job.id}/result`)).arrayBuffer()));
await ask(`/api/jobs/${job.id}`, { method: 'DELETE' });
