/**
 * A shader's text as a person reads it: a line for each statement, indented by blocks, empty lines around functions. What a compiler gets is not
 * touched.
 */

/** A statement, a comment, or what stands before a block with the block. */
interface Item {
  text: string;
  block: Item[] | null;
}

/** Blocks of one statement stay on a line up to this long. */
const WIDEST = 120;

export function formatWgsl(wgsl: string): string {
  const lines: string[] = [];
  for (const item of parse(wgsl)) {
    const written = render(item, '');
    const long = written.length > 1 && item.block;
    if (long && lines.length > 0) lines.push('');
    lines.push(...written);
    if (long) lines.push('');
  }
  return `${lines
    .join('\n')
    .replace(/\n{3,}/g, '\n\n')
    .trim()}\n`;
}

function parse(wgsl: string): Item[] {
  const root: Item[] = [];
  const open: Item[][] = [root];
  let text = '';
  let parens = 0;
  const put = (block: Item[] | null) => {
    const trimmed = text.replace(/\s+/g, ' ').trim();
    if (trimmed || block) open[open.length - 1].push({ text: trimmed, block });
    text = '';
  };
  for (let i = 0; i < wgsl.length; i++) {
    const at = wgsl[i];
    if (wgsl.startsWith('//', i)) {
      put(null);
      const end = wgsl.indexOf('\n', i);
      text = wgsl.slice(i, end < 0 ? wgsl.length : end);
      i += text.length - 1;
      put(null);
    } else if (at === '{') {
      const block: Item[] = [];
      put(block);
      open.push(block);
    } else if (at === '}') {
      put(null);
      open.pop();
    } else {
      text += at;
      if (at === '(') parens++;
      else if (at === ')') parens--;
      else if (at === ';' && parens === 0) put(null);
    }
  }
  put(null);
  return root;
}

/** Lines of an item. */
function render({ text, block }: Item, indent: string): string[] {
  if (!block) return [indent + text];
  const inner: string[] = [];
  for (const item of block) {
    const [first, ...rest] = render(item, `${indent}  `);
    const last = inner[inner.length - 1];
    if (item.text.startsWith('else') && last === `${indent}  }`) inner[inner.length - 1] = `${last} ${first.trim()}`;
    else inner.push(first);
    inner.push(...rest);
  }
  const head = `${indent}${text}${text ? ' ' : ''}`;
  const alone = inner.length === 1 ? `${head}{ ${inner[0].trim()} }` : null;
  if (inner.length === 0) return [`${head}{}`];
  if (alone && alone.length <= WIDEST && !inner[0].trim().startsWith('//')) return [alone];
  return [`${head}{`, ...inner, `${indent}}`];
}
