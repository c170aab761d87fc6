/**
 * The default check has one case of each kind and ends in minutes; the others run in `bun run check --full`, and are
 * skipped otherwise, under a name that says so.
 */
import { describe, test } from "bun:test";

export const fullCheckVariable = "BLACKTREE_FULL_CHECK";
const isFullCheck = process.env[fullCheckVariable] === "1";

/** The end of the names of what is skipped. */
export const onlyInFullCheck = " (only in the full check)";

/** `test` and `describe` for what the full check alone runs; `isLeft` false: for what every check runs. */
export function inFullCheck(isLeft = true) {
  const isSkipped = isLeft && !isFullCheck;
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
