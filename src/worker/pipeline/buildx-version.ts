/** The first buildx that prints its progress for programs to read. */
const FIRST_MINOR = 13;

/** `version` is as `buildx version` gives it, such as "v0.13.1". One without a number of its own was made from a checkout. */
export function isNewEnough(version: string): boolean {
  const [, major, minor] = /(\d+)\.(\d+)/.exec(version) ?? [];
  if (major === undefined || (major === "0" && minor === "0")) return true;
  return Number(major) > 0 || Number(minor) >= FIRST_MINOR;
}
