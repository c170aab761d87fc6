import { expect, test } from "bun:test";
import type { JobResult } from "../../../../src/shared/job.ts";
import { checkDeadLetters } from "../../../drill/checks/dead-letters.ts";
import {
  checkCancelTook,
  checkFurtherResults,
  checkGroup,
  checkResult,
} from "../../../drill/checks/results.ts";
import type { FaultRecord } from "../../../drill/faults/runner.ts";
import { planJob } from "../../../drill/jobs/plan.ts";
import { SeededRandom } from "../../../drill/seeded-random.ts";
import { fault, faults, resultOf, rulesOf } from "../observations.ts";

const random = new SeededRandom("checks");
const quick = planJob("quick", 1, random, "drill-test");
const failing = planJob("failing", 2, random, "drill-test");
const malformed = planJob("malformed", 3, random, "drill-test");
const invalid = planJob("invalid", 4, random, "drill-test");

const failed = (code: string, retryable: boolean, message = ""): Partial<JobResult> => ({
  status: "FAILED",
  image_digest: null,
  error: { code, retryable, message, step: "build" } as JobResult["error"],
});
const cancelled = (message: string): Partial<JobResult> => ({
  ...failed("CANCELLED", false, message),
  status: "CANCELLED",
});

const cancellation = { jobId: "job", acceptedAt: 3000 };

test("drill: a job without a result is lost", () => {
  expect(checkResult(quick, [])).toMatchObject({ lost: 1, problems: [{ rule: "lost" }] });
});

test("drill: a message without a readable id has no result", () => {
  expect(rulesOf(checkResult(malformed, []))).toEqual([]);
  expect(rulesOf(checkResult(malformed, [resultOf({})]))).toEqual(["wrong result"]);
});

test("drill: only a failing build may fail at once; faults may use up all attempts", () => {
  expect(rulesOf(checkResult(quick, [resultOf({})]))).toEqual([]);
  const buildFailed = resultOf(failed("BUILD_FAILED", false));
  expect(rulesOf(checkResult(failing, [buildFailed]))).toEqual([]);
  expect(rulesOf(checkResult(quick, [buildFailed]))).toEqual(["wrong result"]);
  expect(rulesOf(checkResult(failing, [resultOf({})]))).toEqual(["wrong result"]);
  const gaveUp = failed("WORKER_LOST", true);
  expect(checkResult(quick, [resultOf({ ...gaveUp, attempt: 6 })])).toMatchObject({
    failedByFaults: 1,
    problems: [],
  });
  expect(rulesOf(checkResult(quick, [resultOf({ ...gaveUp, attempt: 2 })]))).toEqual(["wrong result"]);
});

test("drill: a job is cancelled only by a request, or by another job with its supersede key", () => {
  const byRequest = resultOf(cancelled("cancelled: not wanted"));
  expect(rulesOf(checkResult(quick, [byRequest]))).toEqual(["wrong result"]);
  expect(rulesOf(checkResult(quick, [byRequest], { cancellation, group: [] }))).toEqual([]);
  const superseded = resultOf(cancelled("superseded by job other"));
  expect(rulesOf(checkResult(quick, [superseded], { cancellation: undefined, group: ["other"] }))).toEqual(
    [],
  );
  expect(rulesOf(checkResult(quick, [superseded], { cancellation, group: ["third"] }))).toEqual([
    "wrong result",
  ]);
});

test("drill: one of the jobs with a supersede key is not superseded", () => {
  const superseded = resultOf(cancelled("superseded by job other"));
  expect(rulesOf(checkGroup([superseded, superseded]))).toEqual(["wrong result"]);
  expect(rulesOf(checkGroup([superseded, resultOf({})]))).toEqual([]);
});

test("drill: an accepted request to cancel ends the job before its tag, unless Redis forgets it", () => {
  expect(rulesOf(checkCancelTook(cancellation, 20_000, faults()))).toEqual(["wrong result"]);
  expect(rulesOf(checkCancelTook(cancellation, 4000, faults()))).toEqual([]);
  expect(
    rulesOf(checkCancelTook(cancellation, 20_000, faults(fault("Redis flushed", "redis", 5000, 5000)))),
  ).toEqual([]);
});

test("drill: a second result is the same, or found again after a loss of Redis, or doubled", () => {
  const once = (...records: FaultRecord[]) => ({ duplicates: 1, faults: faults(...records) });
  const again = resultOf({ attempt: 2 });
  expect(checkFurtherResults([resultOf({}), resultOf({})], once())).toMatchObject({
    repeated: 1,
    doubled: 0,
  });
  expect(checkFurtherResults([resultOf({}), again], once())).toMatchObject({ doubled: 1 });
  const flushed = fault("Redis flushed", "redis", 2000, 2000);
  expect(checkFurtherResults([resultOf({}), again], once(flushed))).toMatchObject({
    foundAgain: 1,
    doubled: 0,
  });
  const other = resultOf({ image_digest: "sha256:two" });
  expect(checkFurtherResults([resultOf({}), other], once(flushed))).toMatchObject({ doubled: 1 });
});

test("drill: a result is repeated as often as its message was, or by a fault of the broker", () => {
  const twice = [resultOf({}), resultOf({})];
  expect(rulesOf(checkFurtherResults(twice, { duplicates: 0, faults: faults() }))).toEqual(["repeated"]);
  expect(rulesOf(checkFurtherResults(twice, { duplicates: 1, faults: faults() }))).toEqual([]);
  const frozen = faults(fault("RabbitMQ frozen", "rabbitmq", 30_000, 32_000));
  expect(rulesOf(checkFurtherResults(twice, { duplicates: 0, faults: frozen }))).toEqual([]);
});

test("drill: refused messages are dead letters, each once, and no others are", () => {
  const letter = (text = "{}") => ({ at: 5000, text, reason: "deployment_version: wrong" });
  expect(rulesOf(checkDeadLetters(invalid, [letter()], [], faults()))).toEqual([]);
  expect(rulesOf(checkDeadLetters(invalid, [], [], faults()))).toEqual(["dead letter"]);
  expect(rulesOf(checkDeadLetters(invalid, [letter(), letter()], [], faults()))).toEqual(["dead letter"]);
  expect(rulesOf(checkDeadLetters(quick, [letter()], [], faults()))).toEqual(["dead letter"]);
  const conflicting = { ...quick, followUps: [{ kind: "conflict", afterMs: 0 }] } as const;
  expect(rulesOf(checkDeadLetters(conflicting, [letter('"v-0001-other"')], [], faults()))).toEqual([]);
  expect(rulesOf(checkDeadLetters(conflicting, [], [], faults()))).toEqual(["dead letter"]);
  const flushed = faults(fault("Redis flushed", "redis", 2000, 2000));
  expect(rulesOf(checkDeadLetters(conflicting, [], [], flushed))).toEqual([]);
});
