/** The drill's job checks: which violations they must report, and which events are allowed. */
import { expect, test } from "bun:test";
import type { JobResult } from "../../../src/shared/job.ts";
import type { FaultRecord } from "../../drill/fault-runner.ts";
import { FAULT_KINDS } from "../../drill/faults.ts";
import {
  checkAttempts,
  checkFurtherResults,
  checkResult,
  putProblems,
  tagProblems,
} from "../../drill/job-checks.ts";
import type { Attempt } from "../../drill/journal.ts";
import type { Launch } from "../../drill/program.ts";
import { SeededRandom } from "../../drill/seeded-random.ts";
import { planJob } from "../../drill/workload.ts";
import type { RecordedRequest } from "../../support/servers/registry-proxy.ts";

const random = new SeededRandom("checks");
const quick = planJob("quick", 1, random, "drill-test");
const failing = planJob("failing", 2, random, "drill-test");

function resultOf(changes: Partial<JobResult>) {
  const result = {
    status: "SUCCESS",
    attempt: 1,
    image_digest: "sha256:one",
    error: null,
    ...changes,
  } as JobResult;
  return { at: 50_000, sentAt: 1000, result, text: JSON.stringify(result) };
}

const error = (code: "BUILD_FAILED" | "WORKER_LOST", retryable: boolean) =>
  ({ code, retryable, message: "", step: "build" }) as const;

function launchOf(program: string): Launch {
  return {
    program,
    number: 1,
    clockOffsetMs: 0,
    startedAt: 0,
    endedAt: undefined,
    process: undefined as never,
  };
}

function run(attempt: number, program: string, startedAt: number, endedAt: number): Attempt {
  return { jobId: "job", attempt, launch: launchOf(program), startedAt, endedAt, status: undefined };
}

function fault(name: string, target: string, beganAt: number, healedAt: number): FaultRecord {
  const kind = FAULT_KINDS.find((candidate) => candidate.name === name);
  if (!kind) throw new Error(`unknown fault ${name}`);
  const planned = { number: 1, kind, target: [target], lastsMs: healedAt - beganAt, pauseMs: 0 };
  return { planned, beganAt, healedAt, settledAt: healedAt, failure: undefined };
}

const rulesOf = ({ problems }: { problems: readonly { rule: string }[] }) => problems.map(({ rule }) => rule);

test("drill: a job without a result is lost", () => {
  expect(checkResult(quick, [])).toMatchObject({ lost: 1, problems: [{ rule: "lost" }] });
});

test("drill: only a failing build may fail at once; faults may use up all attempts", () => {
  expect(rulesOf(checkResult(quick, [resultOf({})]))).toEqual([]);
  const failed = resultOf({ status: "FAILED", error: error("BUILD_FAILED", false) });
  expect(rulesOf(checkResult(failing, [failed]))).toEqual([]);
  expect(rulesOf(checkResult(quick, [failed]))).toEqual(["wrong result"]);
  expect(rulesOf(checkResult(failing, [resultOf({})]))).toEqual(["wrong result"]);
  const gaveUp = { status: "FAILED", error: error("WORKER_LOST", true) } as const;
  expect(checkResult(quick, [resultOf({ ...gaveUp, attempt: 6 })])).toMatchObject({
    failedByFaults: 1,
    problems: [],
  });
  expect(rulesOf(checkResult(quick, [resultOf({ ...gaveUp, attempt: 2 })]))).toEqual(["wrong result"]);
});

test("drill: a second result is the same, or found again after a loss of Redis, or doubled", () => {
  const again = resultOf({ attempt: 2 });
  expect(checkFurtherResults([resultOf({}), resultOf({})], [])).toMatchObject({ repeated: 1, doubled: 0 });
  expect(checkFurtherResults([resultOf({}), again], [])).toMatchObject({ doubled: 1 });
  const flushed = [fault("Redis flushed", "redis", 2000, 2000)];
  expect(checkFurtherResults([resultOf({}), again], flushed)).toMatchObject({ foundAgain: 1, doubled: 0 });
  const other = resultOf({ image_digest: "sha256:two" });
  expect(checkFurtherResults([resultOf({}), other], flushed)).toMatchObject({ doubled: 1 });
});

test("drill: attempts may overlap only while the earlier one's worker is unreachable or frozen", () => {
  const runs = [run(1, "worker-1", 0, 20_000), run(2, "worker-2", 10_000, 15_000)];
  expect(rulesOf(checkAttempts(runs, []))).toEqual(["overlap"]);
  const frozen = (target: string) => [fault("worker frozen, long", target, 5000, 12_000)];
  expect(checkAttempts(runs, frozen("worker-1"))).toMatchObject({ overlaps: 1, problems: [] });
  expect(rulesOf(checkAttempts(runs, frozen("worker-2")))).toEqual(["overlap"]);
  const one = [run(1, "worker-1", 0, 9000), run(2, "worker-2", 10_000, 15_000)];
  expect(checkAttempts(one, [])).toMatchObject({ overlaps: 0, retried: 1, problems: [] });
});

test("drill: an attempt number is used once, as long as Redis keeps its data", () => {
  const runs = [run(1, "worker-1", 0, 5000), run(1, "worker-2", 10_000, 15_000)];
  expect(rulesOf(checkAttempts(runs, []))).toEqual(["attempt number used twice"]);
  expect(rulesOf(checkAttempts(runs, [fault("Redis flushed", "redis", 6000, 6000)]))).toEqual([]);
});

test("drill: the tag is the one in the result, and a failed build has no tag", () => {
  const success = resultOf({}).result;
  expect(tagProblems(success, "sha256:one")).toEqual([]);
  expect(tagProblems(success, "sha256:two")).toHaveLength(1);
  expect(tagProblems(success, undefined)).toHaveLength(1);
  const failed = resultOf({
    status: "FAILED",
    image_digest: null,
    error: error("BUILD_FAILED", false),
  }).result;
  expect(tagProblems(failed, undefined)).toEqual([]);
  expect(tagProblems(failed, "sha256:one")).toHaveLength(1);
});

test("drill: a tag is put once, and not by an attempt that has a successor", () => {
  const workerAt = (host: string) => (host === "one" ? "worker-1" : "worker-2");
  const put = (host: string, at: number, digest: string) =>
    ({ host, at, digest, status: 201 }) as RecordedRequest;
  const runs = [run(1, "worker-1", 0, 20_000), run(2, "worker-2", 10_000, 15_000)];
  expect(putProblems([put("one", 9000, "a")], runs, workerAt)).toEqual([]);
  expect(putProblems([put("two", 14_000, "b")], runs, workerAt)).toEqual([]);
  expect(putProblems([put("one", 11_000, "a")], runs, workerAt)).toHaveLength(1);
  expect(putProblems([put("one", 9000, "a"), put("two", 14_000, "b")], runs, workerAt)).toHaveLength(1);
});
