import { describe, expect, test } from "bun:test";
import { describeAnswer, type HttpAnswer, judge } from "../../../../src/worker/git/http-answer.ts";

const answer = (status: number, headers: Record<string, string> = {}): HttpAnswer => ({
  status,
  headers: new Headers(headers),
});

describe("the kind of an answer", () => {
  test.each([
    [200, {}, "success", false],
    [301, { "Retry-After": "5" }, "redirect", false],
    [401, {}, "unauthenticated", false],
    [401, { "Retry-After": "5" }, "unauthenticated", false],
    [403, {}, "forbidden", false],
    [403, { "Retry-After": "60" }, "throttled", true],
    [403, { "Retry-After": "soon" }, "forbidden", false],
    [404, { "Retry-After": "5" }, "missing", false],
    [410, {}, "missing", false],
    [451, {}, "missing", false],
    [408, {}, "unavailable", true],
    [429, {}, "throttled", true],
    [429, { "Retry-After": "-1" }, "throttled", true],
    [400, {}, "refused", false],
    [500, {}, "unavailable", true],
    [501, {}, "refused", false],
    [503, {}, "unavailable", true],
    [503, { "Retry-After": "0" }, "throttled", true],
  ] as const)("of %d %o is %s", (status, headers, kind, retryable) => {
    expect(judge(answer(status, headers))).toMatchObject({ kind, retryable });
  });
});

describe("Retry-After", () => {
  test("is how long the server asks to wait", () => {
    expect(judge(answer(429, { "Retry-After": "60" })).throttled).toEqual({ retryAfterMs: 60_000 });
    expect(judge(answer(429)).throttled).toBeUndefined();
  });

  test("is named in messages", () => {
    expect(describeAnswer(answer(429, { "Retry-After": "60" }))).toBe(
      "limits requests (HTTP 429) and asks to wait 60 s",
    );
    expect(describeAnswer(answer(429))).toBe("limits requests (HTTP 429)");
    expect(describeAnswer(answer(500))).toBe("answered with HTTP 500");
  });
});
