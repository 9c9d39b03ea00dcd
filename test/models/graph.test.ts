/** Networks drawn from their own graphs: blocks hold every weight and all arithmetic, the layout is a U, boxes do not overlap. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Module, parameters } from '../../core/module.ts';
import { input, sizeOf } from '../../core/tensor.ts';
import { add } from '../../kernels/binary.ts';
import { concat } from '../../kernels/copy.ts';
import { plan } from '../../kernels/fusion.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { blocksOf } from '../../models/graph-blocks.ts';
import { placesOf } from '../../models/graph-layout.ts';
import { amount, drawGraph } from '../../models/graph-svg.ts';
import { conv2d, linear } from '../../models/layers.ts';
import { NETWORK_NAMES, networkGraph } from '../../models/network-graphs.ts';
import { Supir } from '../../models/supir.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

const published = new Supir(SUPIR_SDXL);
const count = (root: object) => [...parameters(root)].reduce((sum, [, { shape }]) => sum + sizeOf(shape), 0);
const total = (works: { parameters: number; flops: number }[], key: 'parameters' | 'flops') =>
  works.reduce((sum, work) => sum + work[key], 0);

test('blocks hold every weight of the published networks and all of their arithmetic', () => {
  const { model, first_stage_model: vae } = published;
  const trees = {
    denoiser: [model],
    control: [model.control_model],
    denoise_encoder: [vae.denoise_encoder, vae.quant_conv],
    encoder: [vae.encoder, vae.quant_conv],
    decoder: [vae.post_quant_conv, vae.decoder],
  };
  for (const [network, roots] of Object.entries(trees)) {
    const { blocks } = networkGraph(SUPIR_SDXL, network as keyof typeof trees, 512, 768);
    assert.is(
      total(blocks, 'parameters'),
      roots.reduce((sum, root) => sum + count(root), 0),
      network,
    );
    for (const block of blocks) if (block.parts.length > 0) assert.is(total(block.parts, 'flops') * block.count, block.flops, block.path);
  }
  const [planned, drawn] = [
    plan(published.denoiserGraph([1, 64, 96, 4], 77, 1), FACTS, LIMITS),
    networkGraph(SUPIR_SDXL, 'denoiser', 768, 512),
  ];
  assert.is(total(drawn.blocks, 'flops'), planned.flops);
});

test('operations without weights close the block before them or open the next', () => {
  class Small extends Module {
    first = conv2d(4, 4, 3);
    blocks = [[conv2d(4, 4, 1), linear(4, 4)], [conv2d(8, 4, 1)]];
  }
  const small = new Small();
  for (const [path, parameter] of parameters(small)) parameter.name = `net.${path}`;
  const x = input('x', [1, 6, 5, 4]);
  const first = add(x, small.first(x));
  const second = add(small.blocks[0][1](small.blocks[0][0](first)), first);
  const third = small.blocks[1][0](concat([second, first]));
  const { blocks, edges, inputs } = blocksOf({ third }, { net: small }, ['net']);
  assert.equal(inputs, [{ name: 'x', shape: [1, 6, 5, 4] }]);
  assert.equal(
    blocks.map(({ path, operations, parameters: weights, flops, reads }) => [path, operations, weights, flops, reads]),
    [
      ['net.first', { conv2d: 1, binary: 1 }, 148, 2 * 30 * 4 * 36, ['x']],
      ['net.blocks.0', { conv2d: 1, linear: 1, binary: 1 }, 40, 2 * 30 * 4 * 8, []],
      ['net.blocks.1', { concat: 1, conv2d: 1 }, 36, 2 * 30 * 4 * 8, []],
    ],
  );
  assert.equal(
    edges.map(({ from, to }) => `${from} ${to}`),
    ['net.first net.blocks.0', 'net.blocks.0 net.blocks.1', 'net.first net.blocks.1'],
  );
});

test('skip connections make a U: a block goes beside the one whose skip it reads', () => {
  const places = placesOf(networkGraph(SUPIR_SDXL, 'unet', 1024, 1024));
  for (let i = 0; i < 9; i++) {
    const [down, up] = [
      places.get(`model.diffusion_model.input_blocks.${i}`)!,
      places.get(`model.diffusion_model.output_blocks.${8 - i}`)!,
    ];
    assert.equal([down.row, down.column, down.up, up.row, up.column, up.up], [i + 1, 0, false, i + 1, 1, true]);
  }
  const denoiser = placesOf(networkGraph(SUPIR_SDXL, 'denoiser', 1024, 1024));
  const column = (path: string) => denoiser.get(`model.${path}`)!.column;
  assert.equal(
    ['control_model.input_blocks.8', 'diffusion_model.input_blocks.8', 'diffusion_model.output_blocks.0'].map(column),
    [0, 1, 2],
  );
});

test('alike blocks of a text tower are one', () => {
  const { blocks } = networkGraph(SUPIR_SDXL, 'text', 1024, 1024);
  const repeated = blocks.filter((block) => block.count > 1);
  assert.equal(
    repeated.map((block) => block.count),
    [11, 31],
  );
  const { blocks: layers } = { blocks: published.conditioner.embedders[1].model.transformer.resblocks };
  assert.is(repeated[1].parameters, 31 * count(layers[0]));
});

test('every picture is well-formed, and its boxes do not overlap', () => {
  for (const network of NETWORK_NAMES) {
    const graph = networkGraph(SUPIR_SDXL, network, 1024, 512);
    const svg = drawGraph(graph, `<${network}>`);
    assert.not.match(svg, /NaN|Infinity|undefined|<denoiser>/, network);
    assert.is(svg.match(/<text/g)?.length, svg.match(/<\/text>/g)?.length);
    const boxes = [...svg.matchAll(/class="box" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"/g)].map((found) =>
      found.slice(1).map(Number),
    );
    assert.is(boxes.length, graph.blocks.length, network);
    const [width, height] = /viewBox="0 0 (\S+) (\S+)"/.exec(svg)!.slice(1).map(Number);
    for (const [i, [x, y, w, h]] of boxes.entries()) {
      assert.ok(x >= 0 && y > 0 && x + w <= width && y + h <= height, network);
      const overlapping = boxes.findIndex(([a, b, c, d], j) => j > i && a < x + w && x < a + c && b < y + h && y < b + d);
      assert.is(overlapping, -1, `${network}: ${graph.blocks[i].path}`);
    }
  }
  assert.equal([0, 999, 1000, 3_870_000_000].map(amount), ['0 ', '999 ', '1 k', '3.87 G']);
});

test.run();
