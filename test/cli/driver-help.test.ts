/** What set-up installs and says: from Debian's own packages alone, in commands that a shell takes, with a way back. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { aptSources, debianMirror } from '../../cli/apt-sources.ts';
import { asRoot, BACKPORTS, installation } from '../../cli/driver-help.ts';

const test = suite('help with drivers', { folder: '' });
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'supir-apt-'));
  mkdirSync(join(context.folder, 'sources.list.d'));
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

const DEBIAN = 'http://mirror.example/debian';
const deb822 = `Types: deb\n# http://old.example/debian\nURIs: ${DEBIAN}/\nSuites: bookworm bookworm-updates\nComponents: main\n`;
const signed = `${deb822}Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n`;
const lines = `deb ${DEBIAN} bookworm main contrib # own\ndeb ${DEBIAN}/ bookworm-updates main\n`;

test("the mirror is Debian's own, whatever else lies beside it", ({ folder }) => {
  const cases: [what: string, files: Record<string, string>, mirror: string | null][] = [
    ['nothing', {}, null],
    ['lines', { 'sources.list': lines }, DEBIAN],
    ['paragraphs', { 'sources.list.d/debian.sources': signed }, DEBIAN],
    ['paragraphs without keys', { 'sources.list.d/debian.sources': deb822 }, DEBIAN],
    [
      'another before it, whose address ends alike',
      {
        'sources.list.d/a.list': 'deb [arch=amd64] https://packages.example/linux/debian bookworm stable\n',
        'sources.list.d/debian.sources': signed,
      },
      DEBIAN,
    ],
    ['another with names as Debian has them', { 'sources.list': `deb https://other.example/debian bookworm main\n${lines}` }, DEBIAN],
    ['another alone', { 'sources.list': 'deb https://other.example/debian bookworm main\n' }, null],
    ["Debian's own host alone", { 'sources.list': 'deb http://deb.debian.org/debian bookworm main\n' }, 'http://deb.debian.org/debian'],
    [
      "Debian's own host in a paragraph, behind another and a comment",
      {
        'sources.list': '# deb http://old.example/debian bookworm main\n',
        'sources.list.d/a.list': 'deb [arch=amd64] https://packages.example/linux/debian bookworm stable\n',
        'sources.list.d/debian.sources': 'Types: deb\nURIs: https://ftp.de.debian.org/debian/\nSuites: bookworm\n',
      },
      'https://ftp.de.debian.org/debian',
    ],
    ['a host that only ends alike', { 'sources.list': 'deb http://notdebian.org/debian bookworm main\n' }, null],
    ["Debian's name within another's address", { 'sources.list': 'deb http://other.example/debian.org/debian bookworm main\n' }, null],
    ['a comment', { 'sources.list': `# deb http://old.example/debian bookworm main\n#${lines}` }, null],
    ['switched off', { 'sources.list.d/debian.sources': `${signed}Enabled: no\n` }, null],
    ['sources of programs', { 'sources.list': lines.replaceAll('deb ', 'deb-src ') }, null],
    ['another release', { 'sources.list': lines.replaceAll('bookworm', 'trixie') }, null],
    ['a file of another ending', { 'sources.list.d/debian.list.save': lines }, null],
    ['signs of a shell in it', { 'sources.list': lines.replaceAll(DEBIAN, 'http://x.example/$(id)') }, null],
  ];
  for (const [what, files, mirror] of cases) {
    rmSync(folder, { recursive: true });
    mkdirSync(join(folder, 'sources.list.d'), { recursive: true });
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    assert.is(debianMirror(aptSources(folder)), mirror, what);
  }
});

test('commands are such that a shell takes them, and say what they add and how to undo it', () => {
  for (const [id, version] of [
    ['debian', '12'],
    ['debian', '13'],
    ['ubuntu', '24.04'],
    ['fedora', '41'],
    ['arch', ''],
  ]) {
    const found = installation({ id, version, name: id }, DEBIAN)!;
    const [typed, ...rest] = asRoot(found).split('\n');
    for (const command of [found.command, found.undo, typed, rest[rest.length - 1].replace('To undo it: ', '')])
      assert.is(spawnSync('sh', ['-n', '-c', command]).status, 0, `${id} ${version}: ${command}`);
    const inner = spawnSync('sh', ['-c', `sudo() { printf %s "$3"; }\n${typed}`], { encoding: 'utf8' }).stdout;
    assert.is(inner, found.command, 'what sudo gets is the command');
    assert.is(found.adds !== '', id === 'debian' && version === '12');
  }
  const backports = installation({ id: 'debian', version: '12', name: '' }, DEBIAN)!;
  assert.ok(backports.command.includes(`deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${DEBIAN} bookworm-backports main`));
  assert.match(asRoot(backports), /^It adds the package source .*supir-webgpu-backports\.list: .*\.$/m);
  assert.ok(backports.undo.includes(`rm -f ${BACKPORTS}`));
  assert.is(installation({ id: 'debian', version: '12', name: '' }, null), null, "not without Debian's own mirror");
  assert.is(installation({ id: 'other', version: '', name: '' }, DEBIAN), null);
});

test.run();
