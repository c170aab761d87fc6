import { describe, expect, test } from "bun:test";
import type { ErrorCode } from "../../../../src/shared/job.ts";
import { buildFailure } from "../../../../src/worker/buildkit/failure.ts";
import {
  blamingBuilder,
  blamingDisk,
  mayHaveLostBuilder,
  type Unsuccessful,
  unsuccessful,
} from "../../../../src/worker/pipeline/run-end.ts";

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

describe("a builder that is not usable after a failure", () => {
  const problem = "no usable builder: the engine does not answer";

  test("may be the cause of a failure that names no other cause, which is then worth another attempt", () => {
    const end = failed("BUILD_FAILED");
    expect(mayHaveLostBuilder(end)).toBe(true);
    expect(blamingBuilder(end, problem)).toMatchObject({
      failure: { code: "INTERNAL", message: `it failed (the worker has ${problem})`, retryable: true },
      hasLostBuilder: true,
    });
    expect(blamingBuilder(end, undefined)).toEqual(end);
  });

  test.each(["REF_NOT_FOUND", "DISK_FULL", "TIMEOUT"] as const)("is not the cause of %s", (code) =>
    expect(mayHaveLostBuilder(failed(code))).toBe(false),
  );

  test("is known when the client of the engine reports the loss itself", () => {
    const stderr = ["ERROR: Cannot connect to the Docker daemon at unix:///run/docker.sock."];
    const lost = buildFailure({ stderr, exitCode: 1, isExportFailed: false });
    const end = unsuccessful(lost, new AbortController().signal, "build");
    expect(end).toMatchObject({ failure: { code: "INTERNAL", retryable: true }, hasLostBuilder: true });
  });
});
