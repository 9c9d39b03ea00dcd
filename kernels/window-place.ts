/**
 * Where the tokens of shifted windows lie in a map, in WGSL: token t of a window is its pixel t, row by row, in the map whose first `shift` rows and
 * columns were moved to the end. Tokens that only this move made neighbours have different regions. (arXiv 2103.14030, sec. 3.2)
 */

/** Uniform parameters of the functions below, and of those who read maps of queries, keys and values. */
export const WINDOW_PARAMS = {
  height: 'u32',
  width: 'u32',
  window: 'u32', // side
  inverse: 'u32', // 2^16 / window, rounded up: tokens are divided by it, for a CPU driver divides lane by lane
  shift: 'u32',
  per_row: 'u32', // windows
  windows: 'u32', // of a map
  stride: 'u32', // loads of a pixel's queries, keys and values
  third: 'u32', // loads of its queries
  channels: 'u32', // of a head
  blocked: 'f32', // added to scores between regions, times log2(e)
} as const;

/** Sides of windows that `inverse` serves. */
export const WIDEST_WINDOW = 32;

export function windowParams([, height, width]: readonly number[], window: number, shift: number) {
  const perRow = width / window;
  return { height, width, window, inverse: Math.ceil(2 ** 16 / window), shift, per_row: perRow, windows: (height / window) * perRow };
}

export const WINDOW_WGSL = `
/** Row and column of a window's corner in the moved map, and the map's first pixel. */
fn window_at(number: u32) -> vec3<u32> {
  let w = number % p.windows;
  return vec3<u32>(w / p.per_row * p.window, w % p.per_row * p.window, number / p.windows * p.height * p.width);
}
fn token_at(window: vec3<u32>, token: u32) -> vec2<u32> {
  let down = (token * p.inverse) >> 16u;
  return window.xy + vec2<u32>(down, token - down * p.window);
}
fn pixel_of(window: vec3<u32>, token: u32) -> u32 {
  let size = vec2<u32>(p.height, p.width);
  let at = token_at(window, token) + p.shift;
  let back = select(at, at - size, at >= size);
  return window.z + back.x * p.width + back.y;
}
fn region_of(window: vec3<u32>, token: u32) -> u32 {
  let size = vec2<u32>(p.height, p.width);
  let at = token_at(window, token);
  let region = vec2<u32>(at >= size - p.window) + vec2<u32>(at >= size - p.shift);
  return 3u * region.x + region.y;
}`.replace(/\/\*\*.*\*\/\n/g, '');
