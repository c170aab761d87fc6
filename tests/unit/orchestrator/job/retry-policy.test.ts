import { expect, test } from "bun:test";
import { emptyLog } from "../../../../src/orchestrator/job/result.ts";
import { decideRetry } from "../../../../src/orchestrator/job/retry-policy.ts";
import type { Outcome, OutcomeStatus } from "../../../../src/shared/job.ts";

function outcome(status: OutcomeStatus, retryable = false): Outcome {
  return {
    status,
    failure:
      status === "SUCCESS"
        ? undefined
        : { code: "WORKER_LOST", step: "dispatch", message: "lost", retryable },
    logs: [],
    log: emptyLog(),
    timingsMs: { clone: 0, build: 0, auth: 0, push: 0, total: 0 },
    startedAt: new Date(),
    finishedAt: new Date(),
  };
}

test.each(["SUCCESS", "CANCELLED", "FAILED"] as const)(
  "%s without a retryable failure is final",
  (status) => {
    expect(decideRetry(outcome(status), 1, 3)).toEqual({ kind: "final" });
  },
);

test("a retryable failure is tried again with growing delay, up to the last attempt", () => {
  const decisions = [1, 2, 3, 4, 5].map((attempt) => decideRetry(outcome("FAILED", true), attempt, 5));
  expect(decisions).toEqual([
    { kind: "retry", delayMs: 2000 },
    { kind: "retry", delayMs: 10_000 },
    { kind: "retry", delayMs: 60_000 },
    { kind: "retry", delayMs: 60_000 },
    { kind: "final" },
  ]);
});

test("a cancelled job is not tried again, whether its failure is retryable or not", () => {
  expect(decideRetry(outcome("CANCELLED", true), 1, 3)).toEqual({ kind: "final" });
});
