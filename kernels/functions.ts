/** Functions of one number that WGSL has not, or not exactly enough. */

/**
 * WGSL of `exact_tanh(x)`: odd polynomial near 0, where 1 - 2 / (exp(2 x) + 1) would lose its digits, and drivers' own tanh too. Within 2 ulps.
 * (Coefficients: Cephes' tanhf, Moshier 1989)
 */
export function tanhWgsl(type: 'f32' | 'vec4<f32>'): string {
  return `
fn exact_tanh(x: ${type}) -> ${type} {
  let a = min(abs(x), ${type}(15.0));
  let z = a * a;
  let near = x + x * z * ((((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1) * z - 3.33332819422e-1);
  let far = ${type}(1.0) - ${type}(2.0) / (exp(2.0 * a) + ${type}(1.0));
  return select(sign(x) * far, near, a < ${type}(0.625));
}`;
}

/**
 * WGSL of `sine(x)` and `cosine(x)`, within 2 ulps of 1 for |x| up to 8192; WGSL promises 2^-11 and only up to pi. x is brought into a quarter turn
 * by three parts of pi / 2 whose products with the turn's number are exact. (Cody & Waite 1980; coefficients: Cephes' sinf and cosf, Moshier 1989)
 */
export function trigonometryWgsl(type: 'f32' | 'vec4<f32>'): string {
  const ints = type === 'f32' ? 'i32' : 'vec4<i32>';
  return `
fn turned(x: ${type}, quarters: i32) -> ${type} {
  let turn = round(x * 0.63661977236758134);
  let r = ((x - turn * 1.5703125) - turn * 4.83751296997070312e-4) - turn * 7.54978995489188e-8;
  let z = r * r;
  let sine = r + r * z * ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1);
  let cosine = ${type}(1.0) - 0.5 * z + z * z * ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2);
  let quarter = (${ints}(turn) + ${ints}(quarters)) & ${ints}(3);
  let value = select(sine, cosine, (quarter & ${ints}(1)) == ${ints}(1));
  return select(value, -value, quarter >= ${ints}(2));
}
fn sine(x: ${type}) -> ${type} { return turned(x, 0); }
fn cosine(x: ${type}) -> ${type} { return turned(x, 1); }`;
}
