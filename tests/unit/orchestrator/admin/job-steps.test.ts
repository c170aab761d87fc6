import { expect, test } from "bun:test";
import { status } from "@grpc/grpc-js";
import { shownSteps } from "../../../../src/orchestrator/admin/job-steps.ts";
import { type Claim, LeasesUnavailable } from "../../../../src/orchestrator/leases/leases.ts";
import type { JobRecord } from "../../../../src/orchestrator/records/job-records.ts";
import type { JournalStep } from "../../../../src/shared/log-journal.ts";
import { RpcError } from "../../../../src/shared/rpc/status.ts";
import { sampleResult } from "../../../integration/orchestrator/sample-result.ts";

const at = "2026-01-02T03:04:06.000Z";
const CLAIM: Claim = { jobId: "j", attempt: 2, workerId: "w", incarnation: "i", address: "w:1" };
const RUNNING: JournalStep = { number: 2, name: "RUN make", started_at: at };
const SHOWN = { ...RUNNING, ended_at: null, duration_ms: null, cached: false, error: null };

function recordWith(changes: Partial<JobRecord> = {}): JobRecord {
  return {
    jobId: "j",
    job: {},
    acceptedAt: new Date(),
    state: "BUILDING",
    events: [],
    result: undefined,
    ...changes,
  };
}

/** With the number of clients that are not closed. */
function sources(claim: () => Promise<Claim | undefined>, describeRun: () => Promise<JournalStep[]>) {
  const open = { clients: 0 };
  const connect = () => {
    open.clients++;
    return { describeRun, close: () => void open.clients-- };
  };
  return { leases: { find: claim }, connect, open };
}

const running = () => Promise.resolve(CLAIM);

test("the steps of a running job are those that its worker reports", async () => {
  const from = sources(running, async () => [RUNNING]);
  expect(await shownSteps(from, recordWith())).toEqual([SHOWN]);
  expect(from.open.clients).toBe(0);
});

test("a job that waits has no steps", async () => {
  const from = sources(
    async () => undefined,
    async () => [RUNNING],
  );
  expect(await shownSteps(from, recordWith())).toEqual([]);
});

test("the steps are not known while the worker or the leases do not answer", async () => {
  const silent = sources(running, () => Promise.reject(new RpcError(status.DEADLINE_EXCEEDED, "silent")));
  expect(await shownSteps(silent, recordWith())).toBeNull();
  expect(silent.open.clients).toBe(0);
  const lost = sources(
    () => Promise.reject(new LeasesUnavailable("away")),
    async () => [],
  );
  expect(await shownSteps(lost, recordWith())).toBeNull();
});

test("the steps of an ended job are those of its record", async () => {
  const from = sources(running, () => Promise.reject(new Error("the worker is not asked")));
  const end = { ended_at: at, duration_ms: 7, cached: true, error: "exit code 1" };
  const ended = { state: "FAILED", result: sampleResult("j") } as const;
  const steps = [{ ...RUNNING, ...end }];
  expect(await shownSteps(from, recordWith({ ...ended, steps }))).toEqual([{ ...SHOWN, ...end }]);
  expect(await shownSteps(from, recordWith(ended))).toBeNull();
  const withoutRun = { ...ended, result: sampleResult("j", { worker_id: null }) };
  expect(await shownSteps(from, recordWith(withoutRun))).toEqual([]);
});
