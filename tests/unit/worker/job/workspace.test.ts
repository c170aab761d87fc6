import { expect, test } from "bun:test";
import { attemptTag } from "../../../../src/worker/job/workspace.ts";

test("every attempt has a different tag, valid in a registry", () => {
  const tags = [
    attemptTag({ jobId: "a:b/c", attempt: 1 }),
    attemptTag({ jobId: "a:b/c", attempt: 2 }),
    attemptTag({ jobId: "other", attempt: 1 }),
  ];
  expect(new Set(tags).size).toBe(3);
  for (const tag of tags) expect(tag).toMatch(/^blacktree-[0-9a-f]{16}-\d+$/);
});
