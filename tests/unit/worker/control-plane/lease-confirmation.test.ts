import { afterEach, expect, setSystemTime, test } from "bun:test";
import { confirmLease } from "../../../../src/worker/control-plane/lease-confirmation.ts";
import { LeaseLost } from "../../../../src/worker/job/cancellation.ts";
import { answeringOrchestrators, IDENTITY, shiftClock, YEAR_MS } from "./answering-orchestrators.ts";

afterEach(() => setSystemTime());

function confirmed(answer: object, before?: () => void): Promise<number> {
  const run = { jobId: "job-1", attempt: 1 };
  const signal = new AbortController().signal;
  return confirmLease(answeringOrchestrators(answer, before), IDENTITY, run, () => false, signal);
}

test("a lease that an orchestrator refuses is lost", async () => {
  await expect(confirmed({ granted: false, leaseRemainingMs: 10_000 })).rejects.toBeInstanceOf(LeaseLost);
});

test.each([
  ["set back", -YEAR_MS],
  ["set forward", YEAR_MS],
])(
  "a confirmation during which the worker's clock is %s grants no more than the lease",
  async (_what, byMs) => {
    const leftMs = await confirmed({ granted: true, leaseRemainingMs: 10_000 }, () => shiftClock(byMs));
    expect(leftMs).toBeLessThanOrEqual(10_000);
  },
);
