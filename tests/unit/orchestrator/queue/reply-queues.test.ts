import { expect, test } from "bun:test";
import { mayReplyTo } from "../../../../src/orchestrator/queue/reply-queues.ts";

test.each([
  ["*", "any", true],
  ["replies", "replies", true],
  ["replies", "replies.one", false],
  ["replies.*", "replies.one.two", true],
  ["replies.*", "other.replies.one", false],
  ["*.results", "team.results", true],
  ["a*b*c", "a1b2c", true],
  ["a*b*c", "abc", true],
  ["a*b*c", "acb", false],
  ["ab*ba", "aba", false],
  ["*x*", "aXa", false],
] as const)("%s allows %s: %p", (pattern, queue, isAllowed) => {
  expect(mayReplyTo(["never", pattern], queue)).toBe(isAllowed);
});

test("without a pattern no queue is allowed", () => {
  expect(mayReplyTo([], "replies")).toBe(false);
});
