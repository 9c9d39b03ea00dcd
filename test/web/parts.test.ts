/** Parts of the page that need no browser: where blocks stand, which sources they name, how panes zoom, and what numbers look like. */
import { existsSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { BlockGraph } from '../../drawing/graph-blocks.ts';
import { parseConfig, SUPIR_SDXL } from '../../models/config.ts';
import { CLEANER } from '../../restore/clean-method.ts';
import { DIFFBIR } from '../../restore/diffbir-method.ts';
import { DIFFBIR_V21 } from '../../restore/diffbir-model.ts';
import { networkGraph } from '../../restore/network-graphs.ts';
import type { Kind } from '../../restore/stage.ts';
import { sourceMap } from '../../scripts/web-site.ts';
import { blockNamesOf } from '../../web/block-names.ts';
import { BOX_HEIGHT, BOX_WIDTH, layoutOf } from '../../web/network-layout.ts';
import { pooled } from '../../web/pictures.ts';
import { sourcesOf } from '../../web/sources.ts';
import { amount, bytes, seconds } from '../../web/words.ts';
import { Zoom } from '../../web/zoom.ts';
import { projectFile } from '../support/fixtures.ts';
import { tinyBase } from '../support/tiny-diffbir.ts';

const demo = parseConfig(JSON.parse(new TextDecoder().decode(await projectFile('demo/config.json'))), 'config.json');
const diffBir = { ...DIFFBIR_V21, base: await tinyBase() };
const graphs: Record<string, BlockGraph> = {
  DiffBIR: networkGraph<Kind>(diffBir, 'denoiser', 64, 64, DIFFBIR as never),
  ESRGAN: networkGraph<Kind>(CLEANER.published, 'cleaner', 64, 64, CLEANER as never),
  SwinIR: networkGraph<Kind>(diffBir, 'cleaner', 64, 64, DIFFBIR as never),
  demo: networkGraph(demo, 'denoiser', 64, 64),
  published: networkGraph(SUPIR_SDXL, 'denoiser', 1024, 1024),
};

const map = sourceMap();

for (const [name, graph] of Object.entries(graphs)) {
  for (const shape of ['wide', 'narrow'] as const)
    test(`no two blocks of the ${name} network, drawn ${shape}, lie over each other, and every line ends at two of them`, () => {
      const { boxes, lines, width, height } = layoutOf(graph, shape);
      // SwinIR's six blocks behind its one skip connection stand in a row where there is room.
      const most = { wide: name === 'SwinIR' ? 1200 : 900, narrow: 500 }[shape];
      assert.ok(width <= most, `${width} pixels`);
      assert.is(boxes.length, graph.blocks.length);
      assert.is(lines.length, graph.edges.length);
      for (const [i, a] of boxes.entries()) {
        assert.ok(a.x >= 0 && a.y >= 0 && a.x + BOX_WIDTH <= width && a.y + BOX_HEIGHT <= height, a.block.path);
        for (const b of boxes.slice(i + 1))
          assert.ok(Math.abs(a.x - b.x) >= BOX_WIDTH || Math.abs(a.y - b.y) >= BOX_HEIGHT, `${a.block.path} ${b.block.path}`);
      }
    });

  test(`every block of the ${name} network names sources that there are`, () => {
    for (const block of graph.blocks) {
      const sources = sourcesOf(block, map);
      for (const path of sources) assert.ok(existsSync(new URL(`../../${path}`, import.meta.url)), `${block.path}: ${path}`);
      if (block.path.includes('project_modules')) assert.ok(sources.includes('models/zero-sft.ts'), block.path);
      assert.ok(
        sources.some((path) => path.startsWith('kernels/')),
        block.path,
      );
    }
  });
}

test('blocks are named within their network, the networks in words', () => {
  const named = (graph: string, path: string) => {
    const { family, title, short } = blockNamesOf(graphs[graph].blocks).get(path)!;
    return [family, title, short];
  };
  assert.equal(named('demo', 'model.control_model.input_blocks.2'), ['control', 'control network', 'input.2']);
  assert.equal(named('demo', 'model.diffusion_model.project_modules.0'), ['project', 'project modules', 'project.0']);
  assert.equal(named('DiffBIR', 'base.model.diffusion_model.output_blocks.3'), ['unet', 'UNet', 'output.3']);
  assert.equal(named('DiffBIR', 'control.middle_block'), ['control', 'control network', 'middle']);
  assert.equal(named('DiffBIR', 'control.zero_convs.3.0'), ['control', 'control network', 'zero.3.0']);
  assert.equal(named('ESRGAN', 'RRDB_trunk.0'), ['unet', 'RrdbNet', 'RRDB_trunk.0']);
});

test('zooming keeps the point under the pointer, and the picture fills its pane', () => {
  const zoom = new Zoom();
  const under = (p: number) => (p - zoom.x.value) / zoom.scale.value;
  const before = under(0.3);
  zoom.zoom(4, 0.3, 0.3);
  assert.ok(Math.abs(under(0.3) - before) < 1e-12);
  zoom.pan(5, -9);
  assert.is(zoom.x.value, 0);
  assert.is(zoom.y.value, 1 - zoom.scale.value);
  zoom.zoom(1e-3);
  assert.equal([zoom.scale.value, zoom.x.value, zoom.y.value], [1, 0, 0]);
});

test('pooling averages squares, also those that the border cuts', () => {
  const data = Float32Array.of(1, 3, 5, 7, 9, 11); // (1, 3, 2, 1)
  assert.equal(pooled({ data, shape: [1, 3, 2, 1] }, 2), { data: Float32Array.of(4, 10), shape: [1, 2, 1, 1] });
  const small = { data, shape: [1, 2, 3, 1] };
  assert.is(pooled(small, 3), small);
});

test('numbers in words', () => {
  assert.equal([999, 96_200_000, 9.6e9].map(bytes), ['999 B', '96.2 MB', '9.60 GB']);
  assert.equal([0.42, 12.4, 185, 7300].map(seconds), ['0.4 s', '12 s', '3 min 05 s', '2 h 2 min']);
  assert.equal([7, 6_760_000, 4.95e8].map(amount), ['7', '6.76 M', '495 M']);
});

test.run();
