/**
 * A shader's text with its places filled: `$name` stands for what `places` has of that name, a number for a u32, a text for itself with its own places
 * filled. So a kernel's text stands in one piece in its file, and what varies has a name there. Throws for a name that `places` lacks.
 */
export function fill(text: string, places: Readonly<Record<string, string | number>>): string {
  return text.replace(/\$(\w+)/g, (_, name: string) => {
    const value = places[name];
    if (value === undefined) throw new Error(`Nothing fills $${name}.`);
    return typeof value === 'number' ? `${value}u` : fill(value, places);
  });
}
