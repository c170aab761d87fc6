import { describe, expect, test } from "bun:test";
import { StepFailure, type Throttling } from "../../../../src/worker/job/failure.ts";
import { type RetryPolicy, retryInPlace } from "../../../../src/worker/job/retry.ts";

const failure = (throttled?: Throttling, retryable = true) =>
  new StepFailure({ code: "PUSH_FAILED", step: "push", message: "refused", retryable, throttled });

/** Fails with each error in turn, and then succeeds. */
async function tries(
  errors: readonly Error[],
  policy: Partial<RetryPolicy> = {},
  askDelay?: () => Promise<Throttling>,
) {
  const lines: string[] = [];
  let tried = 0;
  const error = await retryInPlace({
    policy: { tries: 3, initialDelayMs: 1, ...policy },
    signal: new AbortController().signal,
    log: (line) => void lines.push(line),
    askDelay,
    attempt: async () => {
      const next = errors[tried++];
      if (next) throw next;
    },
  }).catch((thrown: unknown) => thrown);
  return { tried, error, lines };
}

describe("a step is tried again", () => {
  test("as often as the policy says, unless the fault is final", async () => {
    const passing = failure();
    expect(await tries([passing, passing])).toMatchObject({ tried: 3, error: undefined });
    expect(await tries([passing, passing, passing, passing])).toMatchObject({ tried: 3, error: passing });
    const final = failure(undefined, false);
    expect(await tries([final])).toMatchObject({ tried: 1, error: final });
  });

  test("any number of times while a server limits requests, after the time that it asks for", async () => {
    const limited = Array.from({ length: 5 }, () => failure({ retryAfterMs: 20 }));
    const { tried, error, lines } = await tries([...limited, failure(), failure()]);
    expect({ tried, error }).toEqual({ tried: 8, error: undefined });
    expect(lines.slice(0, 5).every((line) => line.includes("in 20 ms"))).toBe(true);
  });

  test("after the time that the server states when it is asked", async () => {
    const { lines } = await tries([failure({})], {}, async () => ({ retryAfterMs: 30 }));
    expect(lines[0]).toContain("in 30 ms");
  });

  test("but not after the end of the run", async () => {
    const limited = failure({ retryAfterMs: 60_000 });
    const deadlineMs = performance.now() + 30_000;
    expect(await tries([limited], { deadlineMs })).toMatchObject({ tried: 1, error: limited });
  });
});
