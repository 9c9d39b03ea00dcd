/** Norms and modulations of concatenations that are never put together. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { constant, type Tensor } from '../../core/tensor.ts';
import { concat } from '../../kernels/copy.ts';
import { plan } from '../../kernels/fusion.ts';
import { groupMoments } from '../../kernels/group-moments.ts';
import { groupNorm, normalizeGroups } from '../../kernels/group-norm.ts';
import { silu } from '../../kernels/unary.ts';
import { modulate } from '../../kernels/zero-sft.ts';
import * as reference from '../../verify/reference.ts';
import { type Sample, sampler, type Values } from '../../verify/sample.ts';
import { check, checkExact } from '../support/check.ts';
import { FACTS, LIMITS } from '../support/facts.ts';

type Part = [channels: number, dtype: 'f32' | 'f16'];

interface Case {
  what: string;
  /** Images and pixels. */
  outer: number[];
  groups: number;
  x: Part[];
  raw: Part[];
}

const CASES: Case[] = [
  {
    what: 'groups of 12 across the border at 28',
    outer: [2, 5, 7],
    groups: 4,
    x: [
      [28, 'f32'],
      [20, 'f32'],
    ],
    raw: [
      [28, 'f32'],
      [20, 'f32'],
    ],
  },
  {
    what: 'a border that is no multiple of four',
    outer: [3, 5, 3],
    groups: 2,
    x: [
      [7, 'f32'],
      [9, 'f32'],
    ],
    raw: [
      [7, 'f32'],
      [9, 'f32'],
    ],
  },
  {
    what: 'groups of 6 in fours, f16 beside f32',
    outer: [2, 3, 11],
    groups: 4,
    x: [
      [8, 'f16'],
      [16, 'f32'],
    ],
    raw: [
      [8, 'f32'],
      [16, 'f16'],
    ],
  },
  {
    what: 'three parts of odd sizes, f16',
    outer: [2, 17],
    groups: 3,
    x: [
      [5, 'f16'],
      [1, 'f32'],
      [9, 'f16'],
    ],
    raw: [
      [5, 'f16'],
      [1, 'f16'],
      [9, 'f16'],
    ],
  },
  {
    what: 'other borders in raw than in x, several slices of pixels',
    outer: [2, 37, 29],
    groups: 2,
    x: [
      [8, 'f32'],
      [16, 'f32'],
    ],
    raw: [
      [12, 'f32'],
      [4, 'f16'],
      [8, 'f32'],
    ],
  },
  {
    what: 'raw whole',
    outer: [3, 7, 5],
    groups: 3,
    x: [
      [4, 'f32'],
      [8, 'f32'],
    ],
    raw: [[12, 'f32']],
  },
  { what: 'both whole', outer: [2, 5, 7], groups: 4, x: [[20, 'f32']], raw: [[20, 'f32']] },
];

const copies = (tensor: Tensor) => plan({ tensor }, FACTS, LIMITS).dispatches.filter(({ shader }) => shader.name.startsWith('copy')).length;

for (const [seed, { what, outer, groups, x, raw }] of CASES.entries()) {
  const draw = sampler(seed);
  const parts = (list: Part[], mean: number) => list.map(([channels, dtype]) => draw([...outer, channels], { dtype, mean }));
  const whole = (list: Sample[]): Values => reference.concat(list, outer.length);
  const joined = (list: Sample[]) => concat(list.map(({ tensor }) => tensor));
  const [xs, raws] = [parts(x, 0.5), parts(raw, 0)];
  const channels = whole(xs).shape[outer.length];
  const [gamma, beta] = [draw([channels]), draw([channels])];
  const terms = whole(xs).data.length / outer[0] / groups / 64;
  const plain = reference.groupNorm(whole(xs), gamma, beta, groups, 1e-5);

  test(`groupNorm and a modulation of it in parts: ${what}`, async () => {
    const [sftGamma, sftBeta] = [draw([...outer, channels]), draw([...outer, channels])];
    const modulated = (scale: number) => {
      const normal = groupNorm(joined(xs), gamma.tensor, beta.tensor, groups);
      return modulate(normal, sftGamma.tensor, sftBeta.tensor, joined(raws), scale);
    };
    assert.is(copies(modulated(1)), 0);
    for (const scale of [1, 0.3]) {
      const expected = reference.modulate(plain, sftGamma, sftBeta, whole(raws), scale);
      await check('modulated groupNorm', modulated(scale), expected, { terms, ulps: 16 });
    }
    const activated = silu(groupNorm(joined(xs), gamma.tensor, beta.tensor, groups));
    assert.is(copies(activated), 0);
    await check('groupNorm + silu in parts', activated, reference.map(plain, reference.silu), { terms, ulps: 16 });
    const moments = groupMoments(joined(xs), groups);
    const apart = normalizeGroups(joined(xs), moments, gamma.tensor, beta.tensor);
    assert.is(copies(apart), 0);
    await check('groupNorm in parts', apart, plain, { terms, ulps: 8 });
  });

  test(`a modulation by 0 returns the bits of raw: ${what}`, async () => {
    const infinite = constant(new Float32Array(plain.data.length).fill(Number.POSITIVE_INFINITY), plain.shape);
    const normal = groupNorm(joined(xs), gamma.tensor, beta.tensor, groups);
    await checkExact('modulated groupNorm by 0', modulate(normal, infinite, infinite, joined(raws), 0), whole(raws));
  });
}

test.run();
