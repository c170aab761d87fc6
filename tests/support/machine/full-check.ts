/**
 * The default check runs one case of each kind and ends in minutes; the other cases run in `bun run check --full`,
 * and are skipped otherwise, with a name that says so.
 */
import { describe, test } from "bun:test";

export const fullCheckVariable = "BLACKTREE_FULL_CHECK";
export const isFullCheck = process.env[fullCheckVariable] === "1";

/** The end of the names of skipped cases. */
export const onlyInFullCheck = " (only in the full check)";

/** `test` and `describe` for cases of the full check; with `isFullOnly` false, for cases of every check. */
export function inFullCheck(isFullOnly = true) {
  const isSkipped = isFullOnly && !isFullCheck;
  const suffix = isSkipped ? onlyInFullCheck : "";
  return {
    test(name: string, run: () => Promise<void> | void, timeoutMs?: number): void {
      test.skipIf(isSkipped)(`${name}${suffix}`, run, timeoutMs);
    },
    describe(name: string, declare: () => void): void {
      describe.skipIf(isSkipped)(`${name}${suffix}`, declare);
    },
  };
}
