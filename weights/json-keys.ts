/** JSON.parse keeps the last of two equal keys and says nothing; in an index of tensors that hides a mistake or a trick. */

/** A key that some object of valid JSON text has twice, or undefined. Escapes are resolved first: "a" and "\u0061" are equal. */
export function duplicateKey(json: string): string | undefined {
  const open: (Set<string> | undefined)[] = []; // the keys of every open object; undefined for an array
  let expectsKey = false;
  for (let i = 0; i < json.length; i++) {
    switch (json[i]) {
      case '{':
        open.push(new Set());
        expectsKey = true;
        break;
      case '[':
        open.push(undefined);
        expectsKey = false;
        break;
      case '}':
      case ']':
        open.pop();
        break;
      case ',':
        expectsKey = open.at(-1) !== undefined;
        break;
      case '"': {
        const start = i;
        for (i++; json[i] !== '"'; i++) if (json[i] === '\\') i++;
        if (!expectsKey) break;
        expectsKey = false;
        const key: string = JSON.parse(json.slice(start, i + 1));
        const keys = open.at(-1)!;
        if (keys.has(key)) return key;
        keys.add(key);
      }
    }
  }
  return undefined;
}
