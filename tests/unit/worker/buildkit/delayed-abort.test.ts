import { expect, test } from "bun:test";
import { delayedAbort } from "../../../../src/worker/buildkit/delayed-abort.ts";

const REASON = new Error("enough");

test.each([
  ["no step has begun", Number.NEGATIVE_INFINITY],
  ["the last step began long ago", performance.now() - 3_600_000],
])("aborts at once when %s", (_, lastStepAtMs) => {
  const source = new AbortController();
  const delayed = delayedAbort(source.signal, () => lastStepAtMs);
  expect(delayed.aborted).toBe(false);
  source.abort(REASON);
  expect(delayed.reason).toBe(REASON);
});

test("aborts a little later, with the same reason, when a step has just begun", async () => {
  const source = new AbortController();
  const delayed = delayedAbort(source.signal, () => performance.now());
  source.abort(REASON);
  expect(delayed.aborted).toBe(false);
  await new Promise((resolve) => delayed.addEventListener("abort", resolve, { once: true }));
  expect(delayed.reason).toBe(REASON);
});

test("is aborted when the signal was aborted before", () => {
  expect(delayedAbort(AbortSignal.abort(REASON), () => Number.NEGATIVE_INFINITY).reason).toBe(REASON);
});
