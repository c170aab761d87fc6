import { expect, test } from "bun:test";
import { delayedAbort } from "../../../../src/worker/buildkit/delayed-abort.ts";

const REASON = new Error("enough");

test.each([
  ["no step has begun", Number.NEGATIVE_INFINITY],
  ["the last step began long ago", performance.now() - 3_600_000],
])("at once when %s", (_, lastStepAtMs) => {
  const asked = new AbortController();
  const delayed = delayedAbort(asked.signal, () => lastStepAtMs);
  expect(delayed.aborted).toBe(false);
  asked.abort(REASON);
  expect(delayed.reason).toBe(REASON);
});

test("a little later, with the same reason, when a step has just begun", async () => {
  const asked = new AbortController();
  const delayed = delayedAbort(asked.signal, () => performance.now());
  asked.abort(REASON);
  expect(delayed.aborted).toBe(false);
  await new Promise((resolve) => delayed.addEventListener("abort", resolve, { once: true }));
  expect(delayed.reason).toBe(REASON);
});

test("what was aborted before is aborted", () => {
  expect(delayedAbort(AbortSignal.abort(REASON), () => Number.NEGATIVE_INFINITY).reason).toBe(REASON);
});
