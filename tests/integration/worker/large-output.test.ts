/** Large output of a real program, through redaction and log to a client that follows and to one that stalls. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { run } from "../../support/machine/processes.ts";
import type { Comparison } from "./large-output-run.ts";

// A minute on a busy machine; nothing here hangs when it takes longer.
const KEPT_BYTES = 2_000_000;
const TAIL_BYTES = 256 * 1024;
const SECRET = "a-secret-of-the-job-4711";

test.each([
  ["in lines", `yes 'a usual line of some length, with ${SECRET} in it' | head -c $BYTES`],
  ["in one endless line", `yes 'word ${SECRET}' | tr '\\n' ' ' | head -c $BYTES`],
])(
  "a large output %s needs no more memory than a small one, and the kept log is described",
  async (_, script) => {
    const program = join(import.meta.dir, "large-output-run.ts");
    const { stdout } = await run([process.execPath, program, script], { timeoutMs: 280_000 });
    const { small, large, moreBytes } = JSON.parse(stdout) as Comparison;
    expect(large.liveBytes - small.liveBytes).toBeLessThan(moreBytes * 0.25);
    expect(large.residentBytes - small.residentBytes).toBeLessThan(moreBytes * 0.4);
    for (const { isSecretShown, isGapMarked } of [small, large])
      expect({ isSecretShown, isGapMarked }).toEqual({ isSecretShown: false, isGapMarked: true });
    expect(large.log.truncated).toBe(true);
    expect(large.log.bytes).toBeWithin(KEPT_BYTES, KEPT_BYTES + TAIL_BYTES + 1000);
    expect(large.logs.join("\n")).toContain("***");
  },
);
