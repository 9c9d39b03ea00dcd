/** Code in the documentation, compiled in strict mode. Blocks that import something are whole programs; the others are parts, and continue what stands before them. */
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('programs in the documentation have the types that they claim', async () => {
  const pages = ['README.md', ...(await readdir(join(root, 'docs'))).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)];
  const folder = join(root, 'out', `docs-code-${process.pid}`); // within the project, whose packages it finds
  await mkdir(folder, { recursive: true });
  try {
    let count = 0;
    for (const page of pages) {
      const blocks = (await readFile(join(root, page), 'utf8')).matchAll(/^```ts\n(.*?)^```$/gms);
      for (const [, code] of blocks) {
        if (!code.startsWith('import ')) continue;
        await writeFile(join(folder, `${page.replace(/\W/g, '-')}-${++count}.ts`), `${code}\nexport {};\n`);
      }
    }
    assert.ok(count >= 4, `${count} programs`);
    const config = { extends: '../../tsconfig.json', compilerOptions: { noUnusedLocals: false }, include: ['*.ts'] };
    await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config));
    const compiled = promisify(execFile)(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder]);
    assert.is(await compiled.then(({ stdout }) => stdout).catch((error) => error.stdout), '');
  } finally {
    await rm(folder, { recursive: true });
  }
});

test.run();
