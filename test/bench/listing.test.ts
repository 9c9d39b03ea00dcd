/** The estimate of a loop's arithmetic from an assembly listing, which needs no compiler. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loopsOf, share, wholeCost } from '../../bench/gpu/listing.ts';

const LISTING = `BB0:
	s_mov_b32 s0, 0                                     ; be800380
	v_fmac_f32_e32 v9, v1, v2                           ; not in a loop
BB1:
	v_exp_f32_e32 v3, v4                                ; 7e064b04
BB2:
	ds_read_b128 v[4:7], v1 offset:64                   ; dbfc0040
	ds_read2st64_b32 v[8:9], v1 offset1:1               ; d8e00100
	v_fmac_f32_e32 v0, v4, v5                           ; 56000b04
	(then repeated 6 times)
	v_dual_fmac_f32 v10, v1, v2 :: v_dual_fmac_f32 v11, v3, v4
	v_add_nc_u32_e32 v1, 4, v1                          ; 4a020284
	s_cbranch_scc0 BB2                                  ; bf84fff2
BB3:
	v_mul_lo_u32 v2, v3, v4                             ; d5690002
	s_cbranch_scc1 BB1                                  ; bf85fff0
BB4:
	s_endpgm                                            ; bf810000
`;

test('loops nest, and their instructions are counted once', () => {
  const [outer, ...others] = loopsOf(LISTING, 32);
  assert.is(others.length, 0);
  assert.equal(outer.own, { multiplyAdds: 0, vector: 8, shared: 0 });
  assert.is(outer.inside.length, 1);
  const inner = outer.inside[0];
  // Seven multiply-adds, a pair and an addition; 24 bytes of workgroup memory a lane, 64 bytes a cycle.
  assert.equal(inner.own, { multiplyAdds: 9, vector: 9, shared: 12 });
  assert.is(share(inner.own, 32), 9 / 12);
  assert.equal(wholeCost(outer, [5]), { multiplyAdds: 45, vector: 53, shared: 60 });
});

test('a wave of 64 lanes takes two passes', () => {
  const inner = loopsOf(LISTING, 64)[0].inside[0];
  assert.equal(inner.own, { multiplyAdds: 9, vector: 18, shared: 24 });
  assert.is(share(inner.own, 64), 18 / 24);
});

test('a matrix instruction makes 4096 products in 32 cycles, and other arithmetic beside it none', () => {
  const listing = `BB0:
	ds_load_b128 v[144:147], v2                         ; dbfc0000
	v_fma_mix_f32 v9, v1, v2, v3                        ; cc200009
	v_wmma_f32_16x16x16_f16 v[16:23], v[144:151], v[176:183], v[16:23] ; cc400010
	s_cbranch_scc0 BB0                                  ; bfa1fffc
`;
  for (const lanes of [32, 64]) {
    const [{ own }] = loopsOf(listing, lanes);
    assert.is(own.multiplyAdds * lanes, 4096);
    assert.is(own.vector, 32 + lanes / 32);
    assert.is(share(own, lanes), 128 / own.vector);
  }
});

test('trips that do not fit the listing are refused', () => {
  const [outer] = loopsOf(LISTING, 32);
  assert.throws(() => wholeCost(outer, []), 'more loops');
  assert.throws(() => wholeCost(outer, [1, 2]), 'fewer');
});

test.run();
