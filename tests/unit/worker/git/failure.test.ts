import { describe, expect, test } from "bun:test";
import { gitFailure } from "../../../../src/worker/git/failure.ts";

const ATTEMPT = { repositoryUrl: "https://example.com/acme/app", branch: "main", withToken: false };

describe("a full disk", () => {
  test.each([
    ["fatal: write error: No space left on device", "fatal: fetch-pack: invalid index-pack output"],
    ["error: unable to write file big", "fatal: unable to checkout working tree"],
    ["error: unable to create file f99: No space left on device", "fatal: unable to checkout working tree"],
  ])("%s", (first, second) => {
    expect(gitFailure(ATTEMPT, [first, second]).failure).toMatchObject({
      code: "DISK_FULL",
      retryable: true,
    });
  });

  test("is not reported for a full disk of the server", () => {
    const stderr = ["remote: fatal: No space left on device", "fatal: early EOF"];
    expect(gitFailure(ATTEMPT, stderr).failure.code).toBe("CLONE_FAILED");
  });
});

test("a tag of a folder or a file does not name a commit", () => {
  const stderr = ["error: object 04a6d20a61d2a8a1523f7bdfbd5e5c5f2c95885f is a tree, not a commit"];
  expect(gitFailure(ATTEMPT, stderr).failure).toMatchObject({ code: "REF_NOT_FOUND", retryable: false });
});
