/** Times for people, in UTC as in logs; `--json` has the exact ones. */

/** As `2026-01-31 12:00:05Z`. */
export function shownTime(time: string): string {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? time : date.toISOString().replace(/T(.*)\.\d+Z$/, " $1Z");
}

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
] as const;

/** In the largest unit of which there are two. */
export function shownAge(ageMs: number): string {
  const [unit, unitMs] = UNITS.find(([, sizeMs]) => ageMs >= 2 * sizeMs) ?? ["s", 1000];
  return `${Math.max(0, Math.floor(ageMs / unitMs))}${unit}`;
}

export function shownDuration(durationMs: number): string {
  const seconds = durationMs / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const [minutes, rest] = [Math.floor(seconds / 60), Math.floor(seconds % 60)];
  if (minutes < 60) return `${minutes} min ${rest} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
