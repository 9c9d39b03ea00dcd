/** Networks drawn from their own graphs: blocks hold every weight and all arithmetic, the layout is a U, boxes do not overlap. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Module, NetworkModule, named, parameters, places } from '../../core/module.ts';
import { input, sizeOf, type Tensor } from '../../core/tensor.ts';
import { blocksOf } from '../../drawing/graph-blocks.ts';
import { placesOf } from '../../drawing/graph-layout.ts';
import { amount, drawGraph } from '../../drawing/graph-svg.ts';
import { add } from '../../kernels/binary.ts';
import { concat } from '../../kernels/copy.ts';
import { plan } from '../../kernels/fusion.ts';
import { ResBlock } from '../../models/blocks.ts';
import { SUPIR_SDXL } from '../../models/config.ts';
import { Conv2d, Linear } from '../../models/layers.ts';
import { factorOf, LoraStack } from '../../models/lora.ts';
import { Supir } from '../../models/supir.ts';
import { NETWORK_NAMES, networkGraph } from '../../restore/network-graphs.ts';
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

test('operations belong to the module that made them; between blocks, to the block that alone reads them or to the one before', () => {
  class Two extends Module {
    0 = new Conv2d(4, 4, 1);
    1 = new Linear(4, 4);

    forward(x: Tensor): Tensor {
      return add(this[1].forward(this[0].forward(x)), x);
    }
  }
  class Small extends NetworkModule {
    first = new Conv2d(4, 4, 3);
    blocks = [new Two(), new Conv2d(8, 4, 1)] as const;

    forward(x: Tensor): Tensor {
      const first = add(x, this.first.forward(x));
      const second = this.blocks[0].forward(first);
      return this.blocks[1].forward(concat([second, first]));
    }
  }
  const small = new Small();
  const { blocks, edges, inputs } = blocksOf({ third: small.forward(input('x', [1, 6, 5, 4])) }, { net: small });
  assert.equal(inputs, [{ name: 'x', shape: [1, 6, 5, 4] }]);
  assert.equal(
    blocks.map(({ path, network, kind, operations, parameters: weights, flops, reads }) => [
      path,
      network,
      kind,
      operations,
      weights,
      flops,
      reads,
    ]),
    [
      ['net.first', 'Small', 'Conv2d', { conv2d: 1, binary: 1 }, 148, 2 * 30 * 4 * 36, ['x']],
      ['net.blocks.0', 'Small', 'Two', { conv2d: 1, linear: 1, binary: 1 }, 40, 2 * 30 * 4 * 8, []],
      ['net.blocks.1', 'Small', 'Conv2d', { concat: 1, conv2d: 1 }, 36, 2 * 30 * 4 * 8, []],
    ],
  );
  assert.equal(
    edges.map(({ from, to }) => `${from} ${to}`),
    ['net.first net.blocks.0', 'net.blocks.0 net.blocks.1', 'net.first net.blocks.1'],
  );
});

test('fused, adapted and planned operations stay with their module', () => {
  const block = new ResBlock(4, 8, 8, 2);
  named(block, 'net.');
  const [x, emb] = [input('x', [1, 6, 5, 4]), input('emb', [1, 8])];
  const graph = { y: block.forward(x, { emb, context: emb }) };
  const known = places({ net: block });
  const down = factorOf({ shape: [4, 4, 3, 3], data: new Float32Array(144) }, 'down');
  const up = factorOf({ shape: [8, 4], data: new Float32Array(32) }, 'up');
  const weight = (block.in_layers as unknown as Record<2, Conv2d>)[2].weight;
  const stack = new LoraStack([{ adapters: [{ parameter: weight, part: 0, parts: 1, strength: 1, factors: [down, up] }], scale: 1 }]);
  for (const each of [graph, stack.apply(graph)]) {
    const { dispatches } = plan(each, FACTS, LIMITS);
    const paths = dispatches.map(({ module }) => known.get(module!)?.path);
    assert.ok(
      paths.every((path) => path?.startsWith('net')),
      paths.join(),
    );
    const convolutions = dispatches.filter(({ label }) => label.startsWith('conv2d'));
    assert.ok(convolutions.length >= 3);
    for (const { label, module } of convolutions) {
      const { path } = known.get(module!)!;
      const [, weight] = /\[(\S+)/.exec(label)!;
      if (weight.startsWith('net.')) assert.ok(weight.startsWith(`${path}.`), label);
      else assert.is(path, 'net.in_layers.2', label); // of the adapter
    }
  }
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
