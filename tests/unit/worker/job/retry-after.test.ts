import { expect, test } from "bun:test";
import { retryAfter } from "../../../../src/worker/job/retry-after.ts";

const DATE = "Thu, 26 Nov 2026 12:00:00 GMT";

test.each([
  ["60", {}, 60_000],
  ["0", {}, 0],
  ["99999999999999999999", {}, 1e23],
  ["-5", {}, undefined],
  ["1.5", {}, undefined],
  ["", {}, undefined],
  ["tomorrow", {}, undefined],
  ["2026", { Date: DATE }, 2_026_000],
  // The server's clock counts.
  ["Thu, 26 Nov 2026 12:01:30 GMT", { Date: DATE }, 90_000],
  ["Thu, 26 Nov 2026 11:00:00 GMT", { Date: DATE }, 0],
  ["Thu, 01 Jan 1970 00:00:00 GMT", {}, 0],
  ["Thu, 99 Foo 2026 12:00:00 GMT", {}, undefined],
])("Retry-After: %p", (value, headers, waitMs) => {
  expect(retryAfter(new Headers({ "Retry-After": value, ...headers }))).toBe(waitMs);
});

test("without Retry-After", () => {
  expect(retryAfter(new Headers())).toBeUndefined();
});
