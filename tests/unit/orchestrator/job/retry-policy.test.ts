import { expect, test } from "bun:test";
import { emptyLog } from "../../../../src/orchestrator/job/result.ts";
import {
  decideRetry,
  earlierWith,
  NOT_COUNTED_FIELD,
  WORKER_LOST_FIELD,
} from "../../../../src/orchestrator/job/retry-policy.ts";
import type { JobEvent, Outcome, OutcomeStatus } from "../../../../src/shared/job.ts";

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

const LIMITS = { maxAttempts: 5, maxWorkersLost: 2 };
const first = { attempt: 1, workersLost: 0, uncounted: 0 };

test.each(["SUCCESS", "CANCELLED", "FAILED"] as const)(
  "%s without a retryable failure is final",
  (status) => {
    const ended = outcome(status);
    expect(decideRetry(ended, first, LIMITS)).toEqual({ kind: "final", outcome: ended });
  },
);

test("a retryable failure is tried again with growing delay, up to the last attempt", () => {
  const ended = outcome("FAILED", true);
  const decisions = [1, 2, 3, 4, 5].map((attempt) =>
    decideRetry(ended, { attempt, workersLost: 0, uncounted: 0 }, LIMITS),
  );
  expect(decisions).toEqual([
    { kind: "retry", delayMs: 2000 },
    { kind: "retry", delayMs: 10_000 },
    { kind: "retry", delayMs: 60_000 },
    { kind: "retry", delayMs: 60_000 },
    { kind: "final", outcome: ended },
  ]);
});

test("attempts that do not count leave the limit of attempts to those that do, but not without end", () => {
  const ended = { ...outcome("FAILED", true), isUncounted: true };
  const decide = (attempt: number, uncounted: number) =>
    decideRetry(ended, { attempt, workersLost: 0, uncounted }, LIMITS);
  expect(decide(5, 1)).toEqual({ kind: "retry", delayMs: 60_000 });
  expect(decide(10, 10)).toEqual({ kind: "retry", delayMs: 2000 });
  expect(decide(6, 1).kind).toBe("final");
  expect(decide(1000, 1000).kind).toBe("final");
});

test("a cancelled job is not tried again, whether its failure is retryable or not", () => {
  expect(decideRetry(outcome("CANCELLED", true), first, LIMITS).kind).toBe("final");
});

test("a job that has lost too many workers is not given another", () => {
  const ended = { ...outcome("FAILED", true), isWorkerLost: true };
  expect(decideRetry(ended, { attempt: 1, workersLost: 1, uncounted: 0 }, LIMITS).kind).toBe("retry");
  const decision = decideRetry(ended, { attempt: 3, workersLost: 2, uncounted: 0 }, LIMITS);
  expect(decision).toMatchObject({
    kind: "final",
    outcome: { status: "FAILED", failure: { code: "WORKER_LOST", retryable: false } },
  });
  expect(JSON.stringify(decision)).toContain("2 workers were lost");
  // The failure of this attempt has another cause.
  const other = outcome("FAILED", true);
  expect(decideRetry(other, { attempt: 3, workersLost: 2, uncounted: 0 }, LIMITS).kind).toBe("retry");
});

test("each attempt that has lost its worker counts once", () => {
  const event = (attempt: number, fields: object = {}): JobEvent => ({
    job_id: "job",
    tenant: "acme",
    attempt,
    seq: 1,
    state: "RETRYING",
    at: "2026-01-01T00:00:00Z",
    ...fields,
  });
  const lost = { worker_lost: true };
  const events = [event(1, lost), event(1, lost), event(2), event(3, lost), event(4, lost)];
  expect(earlierWith(WORKER_LOST_FIELD, events, 4)).toBe(2);
  expect(earlierWith(NOT_COUNTED_FIELD, events, 4)).toBe(0);
  expect(earlierWith(WORKER_LOST_FIELD, [], 1)).toBe(0);
});
