import { expect, test } from "bun:test";
import { settledAbort } from "../../../../src/worker/buildkit/delayed-abort.ts";

const REASON = new Error("enough");

test.each([
  ["no step has begun", Number.NEGATIVE_INFINITY],
  ["the last step began long ago", performance.now() - 3_600_000],
])("at once when %s", (_, lastStepAtMs) => {
  const asked = new AbortController();
  const settled = settledAbort(asked.signal, () => lastStepAtMs);
  expect(settled.aborted).toBe(false);
  asked.abort(REASON);
  expect(settled.reason).toBe(REASON);
});

test("a little later, with the same reason, when a step has just begun", async () => {
  const asked = new AbortController();
  const settled = settledAbort(asked.signal, () => performance.now());
  asked.abort(REASON);
  expect(settled.aborted).toBe(false);
  await new Promise((resolve) => settled.addEventListener("abort", resolve, { once: true }));
  expect(settled.reason).toBe(REASON);
});

test("what was aborted before is aborted", () => {
  expect(settledAbort(AbortSignal.abort(REASON), () => Number.NEGATIVE_INFINITY).reason).toBe(REASON);
});
