/** Curves over the sampling steps, with the chosen step marked. */
const [WIDTH, HEIGHT, PAD] = [240, 64, 6];

interface Props {
  title: string;
  values: readonly number[];
  /** From 1 on. */
  step: number;
  logarithmic?: boolean;
}

export function Curve({ title, values, step, logarithmic = false }: Props) {
  if (values.length === 0) return null;
  const scaled = values.map((value) => (logarithmic ? Math.log10(Math.max(value, 1e-6)) : value));
  const [least, most] = [Math.min(...scaled, logarithmic ? Number.POSITIVE_INFINITY : 0), Math.max(...scaled)];
  const x = (i: number) => PAD + (values.length === 1 ? 0.5 : i / (values.length - 1)) * (WIDTH - 2 * PAD);
  const y = (value: number) => HEIGHT - PAD - (most > least ? (value - least) / (most - least) : 0.5) * (HEIGHT - 2 * PAD);
  const at = Math.min(step, values.length) - 1;
  const now = values[at];
  return (
    <figure class="curve">
      <figcaption>
        {title} <strong>{Math.abs(now) >= 100 ? now.toFixed(0) : now.toPrecision(3)}</strong>
      </figcaption>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={`${title} over ${values.length} steps, from ${values[0].toPrecision(3)} to ${values[values.length - 1].toPrecision(3)}; at step ${at + 1} it is ${now.toPrecision(3)}`}
      >
        <line class="mark" x1={x(at)} x2={x(at)} y1="0" y2={HEIGHT} />
        <polyline points={scaled.map((value, i) => `${x(i)},${y(value)}`).join(' ')} />
        <circle cx={x(at)} cy={y(scaled[at])} r="4" />
      </svg>
    </figure>
  );
}
