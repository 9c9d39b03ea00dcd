/** Names for what a shader has once for each of four axes: the names of its parameters, and their values. */
export type Numbered<Name extends string, T> = { readonly [I in 0 | 1 | 2 | 3 as `${Name}${I}`]: T };

/** { name0: items[0], ..., name3: items[3] } */
export function numbered<const Name extends string, const T>(name: Name, items: readonly T[]): Numbered<Name, T> {
  return Object.fromEntries(items.map((item, i) => [`${name}${i}`, item])) as Numbered<Name, T>;
}

/** The types of four parameters. */
export const U32 = ['u32', 'u32', 'u32', 'u32'] as const;
