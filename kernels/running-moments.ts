/**
 * Moments of values that a thread meets one after the other, in WGSL: for each component of a load the mean so far and the squared deviations from it go
 * along (Welford 1962). They are of differences from a first load, so that a large mean does not round them. `i` tells those of several rows apart.
 */

/** The variables. */
export const declareMoments = (type: string, i: number | '' = '') => `var means${i} = ${type}(0.0);
  var squares${i} = ${type}(0.0);`;

/** Takes d, the n-th, in. */
export const takeIntoMoments = (i: number | '' = '') => `let apart${i} = d${i} - means${i};
        means${i} += apart${i} / n;
        squares${i} += apart${i} * (d${i} - means${i});`;

/** The mean of a load's components. */
export const averageOf = (loads: 1 | 4) => (components: string) => (loads === 4 ? `dot(${components}, vec4<f32>(0.25))` : components);

/** The mean of all components' means, and how far each lies from it. */
export const meanOfMoments = (loads: 1 | 4, i: number | '' = '') => `let mean${i} = ${averageOf(loads)(`means${i}`)};
  let between${i} = means${i} - mean${i};`;
