import { describe, expect, test } from "bun:test";
import { StepFailure } from "../../../../src/worker/job/failure.ts";
import { type RetriedStep, retryInPlace } from "../../../../src/worker/job/retry.ts";

const POLICY = { tries: 3, initialDelayMs: 1 };

function throttled(retryAfterMs: number): StepFailure {
  const message = "the host limits requests";
  return new StepFailure({ code: "CLONE_FAILED", step: "clone", message, retryable: true, retryAfterMs });
}

/** Fails as often as there are failures, then succeeds. */
async function retried(failures: readonly StepFailure[], step: Partial<RetriedStep<string>> = {}) {
  const left = [...failures];
  const lines: string[] = [];
  let tries = 0;
  const attempt = async () => {
    tries += 1;
    const failure = left.shift();
    if (failure) throw failure;
    return "done";
  };
  const { signal } = new AbortController();
  const log = (line: string) => lines.push(line);
  const answer = await retryInPlace({ policy: POLICY, signal, log, attempt, ...step }).catch(
    (error: unknown) => error,
  );
  return { answer, lines, tries };
}

describe("a server that asks to wait", () => {
  test("is waited for, and the log has the duration", async () => {
    const startMs = performance.now();
    const { answer, lines } = await retried([throttled(120)]);
    expect(answer).toBe("done");
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(119);
    expect(lines).toEqual(["the host limits requests; trying again in 120 ms (2 of 3)"]);
  });

  test("is not waited for longer than the attempt has left", async () => {
    const { answer, lines, tries } = await retried([throttled(3_600_000)], { timeLeftMs: () => 90_500 });
    expect(tries).toBe(1);
    expect(lines).toEqual([]);
    expect(answer).toBeInstanceOf(StepFailure);
    expect((answer as StepFailure).failure).toMatchObject({
      code: "CLONE_FAILED",
      retryable: true,
      message: "the host limits requests, but this attempt has only 90 s left",
    });
  });

  test("is waited for in each try, up to the number of tries", async () => {
    const { answer, tries } = await retried([throttled(0), throttled(2), throttled(2), throttled(2)]);
    expect(tries).toBe(3);
    expect(answer).toBeInstanceOf(StepFailure);
  });
});

describe("a step", () => {
  test("has all its tries again after one that has got further", async () => {
    const progress = [false, true, false, false];
    const hasProgressed = () => progress.shift() ?? false;
    const failures = Array.from({ length: 5 }, () => throttled(0));
    const { answer, tries } = await retried(failures, { hasProgressed });
    expect(answer).toBeInstanceOf(StepFailure);
    expect(tries).toBe(4);
  });

  test("ends with the signal's reason, without another try", async () => {
    const controller = new AbortController();
    let tries = 0;
    const attempt = async () => {
      tries += 1;
      controller.abort(new Error("the time is over"));
      throw throttled(0);
    };
    const { answer, lines } = await retried([], { attempt, signal: controller.signal });
    expect(answer).toEqual(new Error("the time is over"));
    expect([tries, lines]).toEqual([1, []]);
  });
});
