/** The course of a training as a picture: the loss of every step, its running mean, and the validation's points, in SVG. */

export interface LossPoint {
  step: number;
  loss: number;
}

const [WIDTH, HEIGHT] = [800, 400];
const MARGIN = { left: 64, right: 16, top: 24, bottom: 40 };

/** An SVG file's text. `smooth` is the number of steps of the running mean. */
export function lossCurve(title: string, training: readonly LossPoint[], validation: readonly LossPoint[], smooth = 20): string {
  const points = [...training, ...validation];
  const last = Math.max(1, ...points.map(({ step }) => step));
  const losses = points.map(({ loss }) => loss).sort((a, b) => a - b);
  // The highest percent would flatten the rest.
  const top = losses.length > 0 ? losses[Math.floor(0.99 * (losses.length - 1))] * 1.1 || 1 : 1;
  const x = (step: number) => MARGIN.left + ((WIDTH - MARGIN.left - MARGIN.right) * step) / last;
  const y = (loss: number) => MARGIN.top + (HEIGHT - MARGIN.top - MARGIN.bottom) * (1 - Math.min(loss, top) / top);
  const line = (list: readonly LossPoint[], color: string, width: number) =>
    list.length < 1
      ? ''
      : `<polyline fill="none" stroke="${color}" stroke-width="${width}" points="${list.map(({ step, loss }) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(' ')}"/>`;
  const mean = training.map(({ step }, i) => {
    const window = training.slice(Math.max(0, i - smooth + 1), i + 1);
    return { step, loss: window.reduce((sum, { loss }) => sum + loss, 0) / window.length };
  });
  const text = (at: string, anchor: string, words: string) => `<text ${at} text-anchor="${anchor}">${words}</text>`;
  const ticks = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y(share * top)}" y2="${y(share * top)}" stroke="#ddd"/>`,
    text(`x="${MARGIN.left - 8}" y="${y(share * top) + 4}"`, 'end', (share * top).toPrecision(3)),
    text(`x="${x(share * last)}" y="${HEIGHT - MARGIN.bottom + 18}"`, 'middle', String(Math.round(share * last))),
  ]);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    ...ticks,
    text(
      `x="${WIDTH / 2}" y="16"`,
      'middle',
      title.replace(/[&<>]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c]!),
    ),
    text(`x="${WIDTH / 2}" y="${HEIGHT - 6}"`, 'middle', 'step (grey: loss, blue: its running mean, red: validation)'),
    line(training, '#bbb', 1),
    line(mean, '#1f5fbf', 2),
    line(validation, '#c0392b', 2),
    '</svg>',
    '',
  ].join('\n');
}
