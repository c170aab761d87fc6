import { describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { reportable } from "../../../../src/worker/git/reportable.ts";
import { StepFailure } from "../../../../src/worker/job/failure.ts";

const FOLDERS = { path: "/srv/worker/runs/1/a-1", checkout: "/srv/worker/runs/1/a-1/checkout" };

function failureOf(error: unknown) {
  const reported = reportable(error, FOLDERS);
  if (!(reported instanceof StepFailure)) throw new Error("not a StepFailure");
  return reported.failure;
}

const systemError = (code: string, message: string) =>
  Object.assign(new Error(`${code}: ${message}`), { code });

describe("an error of the file system", () => {
  test("names the path in the repository", async () => {
    const error = await readFile(`${FOLDERS.checkout}/src/x`).catch((thrown: unknown) => thrown);
    expect(failureOf(error)).toEqual({
      code: "CLONE_FAILED",
      step: "clone",
      message: "the worker failed to write the checkout: ENOENT: no such file or directory, open 'src/x'",
      retryable: true,
    });
  });

  test("names no other path", () => {
    const error = systemError("EXDEV", "cross-device link, rename '/srv/worker/mirrors/x' -> '/y'");
    expect(failureOf(error).message).toBe("the worker failed to write the checkout: EXDEV");
  });

  test("of a full disk is DISK_FULL", () => {
    const error = systemError("ENOSPC", `no space left on device, write '${FOLDERS.checkout}/x'`);
    expect(failureOf(error)).toMatchObject({ code: "DISK_FULL", retryable: true });
  });
});

test("a failure keeps everything but the paths of this machine", () => {
  const message = `git read-tree failed: fatal: Unable to create '${FOLDERS.checkout}/.git/index.lock'`;
  const error = new StepFailure({
    code: "REF_NOT_FOUND",
    step: "clone",
    message,
    throttled: { retryAfterMs: 5 },
  });
  const reported = reportable(error, FOLDERS);
  expect(reported).toMatchObject({
    message: "git read-tree failed: fatal: Unable to create '.git/index.lock'",
    failure: { code: "REF_NOT_FOUND", retryable: false },
    throttled: { retryAfterMs: 5 },
  });
});

test("an unknown error stays one", () => {
  const error = new TypeError("x is undefined");
  expect(reportable(error, FOLDERS)).toBe(error);
});
