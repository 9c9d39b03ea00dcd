/** Numbers in words, as the page writes them. */
export function bytes(count: number): string {
  const exponent = Math.min(3, Math.floor(Math.log10(Math.max(count, 1)) / 3));
  return `${exponent === 0 ? count : (count / 1000 ** exponent).toPrecision(3)} ${['B', 'kB', 'MB', 'GB'][exponent]}`;
}

export function seconds(count: number): string {
  if (count < 10) return `${count.toFixed(1)} s`;
  if (count < 60) return `${Math.round(count)} s`;
  if (count < 3600) return `${Math.floor(count / 60)} min ${String(Math.round(count % 60)).padStart(2, '0')} s`;
  return `${Math.floor(count / 3600)} h ${Math.round((count % 3600) / 60)} min`;
}

/** 6.8 M, 1.2 G. */
export function amount(count: number): string {
  if (count < 1000) return String(Math.round(count));
  const exponent = Math.min(4, Math.floor(Math.log10(count) / 3));
  return `${(count / 1000 ** exponent).toPrecision(3)} ${['', 'k', 'M', 'G', 'T'][exponent]}`;
}
