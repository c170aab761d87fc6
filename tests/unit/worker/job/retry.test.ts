import { describe, expect, test } from "bun:test";
import { StepFailure, type Throttling } from "../../../../src/worker/job/failure.ts";
import { type RetriedStep, retryInPlace } from "../../../../src/worker/job/retry.ts";

const POLICY = { tries: 3, initialDelayMs: 1 };

function failure(throttled?: Throttling, retryable = true): StepFailure {
  const message = "the host limits requests";
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable, throttled });
}

const failures = (count: number, throttled?: Throttling) =>
  Array.from({ length: count }, () => failure(throttled));

/** Fails with each failure in turn, then succeeds. */
async function retried(errors: readonly StepFailure[], step: Partial<RetriedStep<string>> = {}) {
  const left = [...errors];
  const lines: string[] = [];
  let tries = 0;
  const attempt = async () => {
    tries += 1;
    const error = left.shift();
    if (error) throw error;
    return "done";
  };
  const { signal } = new AbortController();
  const log = (line: string) => lines.push(line);
  const answer = await retryInPlace({ policy: POLICY, signal, log, attempt, ...step }).catch(
    (error: unknown) => error,
  );
  return { answer, lines, tries };
}

describe("a step", () => {
  test("is tried again as often as the policy says, unless the fault is final", async () => {
    expect(await retried(failures(2))).toMatchObject({ tries: 3, answer: "done" });
    expect(await retried(failures(3))).toMatchObject({ tries: 3, answer: expect.any(StepFailure) });
    const final = failure(undefined, false);
    expect(await retried([final])).toMatchObject({ tries: 1, answer: final });
  });

  test("has all its tries again after one that has got further", async () => {
    const progress = [false, true, false, false];
    const hasProgressed = () => progress.shift() ?? false;
    expect(await retried(failures(5), { hasProgressed })).toMatchObject({
      tries: 4,
      answer: expect.any(StepFailure),
    });
  });

  test("ends with the signal's reason, without another try", async () => {
    const controller = new AbortController();
    let tries = 0;
    const attempt = async () => {
      tries += 1;
      controller.abort(new Error("the time is over"));
      throw failure();
    };
    const { answer, lines } = await retried([], { attempt, signal: controller.signal });
    expect(answer).toEqual(new Error("the time is over"));
    expect([tries, lines]).toEqual([1, []]);
  });
});

describe("a server that limits requests", () => {
  test("is waited for as long as it asks, and the log has the duration", async () => {
    const startMs = performance.now();
    const { answer, lines } = await retried(failures(1, { retryAfterMs: 120 }));
    expect(answer).toBe("done");
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(119);
    expect(lines).toEqual(["the host limits requests; trying again in 120 ms (the server limits requests)"]);
  });

  test("is waited for any number of times; these tries do not count", async () => {
    const errors = [...failures(5, { retryAfterMs: 2 }), ...failures(2)];
    expect(await retried(errors)).toMatchObject({ tries: 8, answer: "done" });
  });

  test("is asked for the time if its refusal does not state it", async () => {
    const { lines } = await retried(failures(1, {}), { askDelay: async () => ({ retryAfterMs: 30 }) });
    expect(lines[0]).toContain("in 30 ms");
  });

  test.each([
    ["the step has left", { timeLeftMs: () => 90_500 }],
    ["the run has left", { policy: { ...POLICY, deadlineMs: performance.now() + 90_500 } }],
  ])("is not waited for longer than %s", async (_, step) => {
    const { answer, lines, tries } = await retried(failures(1, { retryAfterMs: 3_600_000 }), step);
    expect([tries, lines]).toEqual([1, []]);
    expect((answer as StepFailure).failure).toMatchObject({
      code: "CLONE_FAILED",
      retryable: true,
      message: expect.stringMatching(/^the host limits requests, but this attempt has only \d+ s left$/),
    });
  });
});
