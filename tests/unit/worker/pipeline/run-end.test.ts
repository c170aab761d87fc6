import { describe, expect, test } from "bun:test";
import type { ErrorCode } from "../../../../src/shared/job.ts";
import { blamingDisk, type Unsuccessful } from "../../../../src/worker/pipeline/run-end.ts";

function failed(code: ErrorCode): Unsuccessful {
  return { status: "FAILED", failure: { code, message: "it failed", step: "build", retryable: false } };
}

describe("a disk that was full during the run", () => {
  test.each(["CLONE_FAILED", "BUILD_FAILED", "PUSH_FAILED", "INTERNAL"] as const)(
    "is the cause of %s",
    (code) => {
      expect(blamingDisk(failed(code), "the disk had 3 kB left")).toEqual({
        status: "FAILED",
        failure: {
          code: "DISK_FULL",
          message: "it failed (the disk had 3 kB left)",
          step: "build",
          retryable: true,
        },
      });
    },
  );

  test.each(["REF_NOT_FOUND", "DOCKERFILE_NOT_FOUND", "TIMEOUT", "CANCELLED", "TAG_IMMUTABLE"] as const)(
    "is not the cause of %s",
    (code) => expect(blamingDisk(failed(code), "the disk had 3 kB left")).toEqual(failed(code)),
  );

  test("is not the cause when no disk was full", () => {
    expect(blamingDisk(failed("BUILD_FAILED"), undefined)).toEqual(failed("BUILD_FAILED"));
  });
});
