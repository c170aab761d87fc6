/** The spread of many measurements of one value, in ms. */
export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

/** Undefined when nothing was measured. */
export function spreadOf(valuesMs: readonly number[]): Spread | undefined {
  const sorted = valuesMs.toSorted((one, other) => one - other);
  const [least, most] = [sorted[0], sorted.at(-1)];
  if (least === undefined || most === undefined) return undefined;
  const lower = sorted[Math.floor((sorted.length - 1) / 2)] ?? least;
  const upper = sorted[Math.floor(sorted.length / 2)] ?? most;
  return { median: (lower + upper) / 2, least, most };
}
