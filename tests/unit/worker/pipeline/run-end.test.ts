import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { ErrorCode } from "../../../../src/shared/job.ts";
import { BuildCgroup } from "../../../../src/worker/build-cgroup/build-cgroup.ts";
import { blamingDisk, blamingMemory, type Unsuccessful } from "../../../../src/worker/pipeline/run-end.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";
import { writeFiles } from "../../../support/machine/write-files.ts";

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

describe("memory that ran short during the build", () => {
  const RUN_STEP = 'process "/bin/sh -c make" did not complete successfully: exit code: 2';

  async function blamed(failure: Partial<Unsuccessful["failure"]>): Promise<string> {
    const root = await makeTempDir("memory");
    try {
      await writeFiles(root.path, { "cgroup.controllers": "", "a/memory.max": "64000000" });
      const memory = new BuildCgroup("/a", root.path).beginBuild();
      await writeFiles(join(root.path, "a"), { "memory.events": "oom_kill 1" });
      const end = failed("BUILD_FAILED");
      return blamingMemory({ ...end, failure: { ...end.failure, ...failure } }, memory).failure.message;
    } finally {
      await root.remove();
    }
  }

  test("is named as the cause of a RUN step that failed", async () => {
    const message = await blamed({ message: RUN_STEP });
    expect(message).toStartWith(`${RUN_STEP} (builds in /a may use 64 MB of memory`);
  });

  test("is not named as the cause of another failure", async () => {
    expect(await blamed({ message: "dockerfile parse error" })).toBe("dockerfile parse error");
    expect(await blamed({ message: RUN_STEP, code: "DISK_FULL" })).toBe(RUN_STEP);
  });

  test("is not named when builds have no memory limit", () => {
    expect(blamingMemory(failed("BUILD_FAILED"), undefined)).toEqual(failed("BUILD_FAILED"));
  });
});
