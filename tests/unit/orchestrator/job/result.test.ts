import { expect, test } from "bun:test";
import { emptyLog, recordedSteps, resultOf } from "../../../../src/orchestrator/job/result.ts";
import type { Job, Outcome } from "../../../../src/shared/job.ts";

const acceptedAt = new Date("2026-01-02T03:04:05.000Z");
const claim = { jobId: "j", attempt: 2, workerId: "w", incarnation: "i", address: "host:1" };
const job = { jobId: "j", awsAccount: "1", ecrRepo: "app", deploymentVersion: "v" } as Job;

function outcomeFrom(startedAt: string): Outcome {
  return {
    status: "SUCCESS",
    logs: [],
    log: emptyLog(),
    timingsMs: { clone: 1, build: 2, auth: 3, push: 4, total: 1000 },
    startedAt: new Date(startedAt),
    finishedAt: new Date("2026-01-02T03:04:10.000Z"),
  };
}

test.each([
  ["2026-01-02T03:04:09.000Z", 4000],
  // The worker's clock is behind.
  ["2026-01-02T03:04:01.000Z", 0],
])("a run that began at %s waited for %d ms, whenever its result is made", (startedAt, queued) => {
  const { timings_ms } = resultOf(job, acceptedAt, { claim, outcome: outcomeFrom(startedAt) }, 10);
  expect(timings_ms).toMatchObject({ queued, total: queued + 1000 });
});

test("the recorded steps are limited in number and length, whatever the worker sends", () => {
  const at = "2026-01-02T03:04:05.000Z";
  const step = { number: 1, name: "n".repeat(501), started_at: at, error: "e".repeat(1001) };
  const outcome = { ...outcomeFrom(at), steps: Array.from({ length: 501 }, () => step) };
  const steps = recordedSteps(outcome) ?? [];
  expect(steps).toHaveLength(500);
  expect(steps[0]).toEqual({ ...step, name: "n".repeat(500), error: "e".repeat(1000) });
  expect(recordedSteps(outcomeFrom(at))).toBeUndefined();
});
