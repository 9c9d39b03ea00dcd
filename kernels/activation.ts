/**
 * Activations, as one WGSL function that the kernels which end in one share.
 * silu(x) = x sigmoid(x); gelu(x) = x Phi(x), with erf; quickGelu(x) = x sigmoid(1.702 x). (Hendrycks & Gimpel 2016, Elfwing et al. 2018)
 *
 * Nothing passes through infinity, which compilers may take for impossible: exp(87) is nearly the last power in
 * f32's range, and x / exp(87) is nothing beside other activations as long as x is above -1e30.
 *
 * WGSL has no erf: Abramowitz & Stegun 7.1.26 is used, with an absolute error of 1.5e-7, about one ulp of an f32 near 1.
 */

export type Activation = 'none' | 'silu' | 'gelu' | 'quickGelu';

/** WGSL of `erf`, `silu`, `gelu`, `quickGelu` and `sigmoid(x: type) -> type`; and of `erf_of(x, e)` where e = exp(-x x) is at hand. */
export function activationWgsl(type: 'f32' | 'vec2<f32>' | 'vec4<f32>'): string {
  return `
fn erf_of(x: ${type}, e: ${type}) -> ${type} {
  let t = ${type}(1.0) / (${type}(1.0) + 0.3275911 * abs(x));
  let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return sign(x) * (${type}(1.0) - poly * e);
}
fn erf(x: ${type}) -> ${type} { return erf_of(x, exp(-x * x)); }
fn gelu(x: ${type}) -> ${type} { return 0.5 * x * (${type}(1.0) + erf(x * 0.70710678118654752)); }
fn silu(x: ${type}) -> ${type} { return x / (${type}(1.0) + exp(min(-x, ${type}(87.0)))); }
fn quickGelu(x: ${type}) -> ${type} { return x / (${type}(1.0) + exp(min(-1.702 * x, ${type}(87.0)))); }
fn sigmoid(x: ${type}) -> ${type} {
  let e = exp(-abs(x));
  return select(e, ${type}(1.0), x >= ${type}(0.0)) / (${type}(1.0) + e);
}`;
}
