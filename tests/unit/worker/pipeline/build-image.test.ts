import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { BuildCgroup } from "../../../../src/worker/build-cgroup/build-cgroup.ts";
import { StepFailure, type StepFailureDetails } from "../../../../src/worker/job/failure.ts";
import { explainingStepsEnd } from "../../../../src/worker/pipeline/build-image.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";
import { writeFiles } from "../../../support/machine/write-files.ts";

describe("a build that failed while memory ran short", () => {
  const RUN_STEP = 'process "/bin/sh -c make" did not complete successfully: exit code: 2';
  const failed = (details: Partial<StepFailureDetails>) =>
    new StepFailure({ code: "BUILD_FAILED", step: "build", message: RUN_STEP, ...details });

  async function blamed(details: Partial<StepFailureDetails>): Promise<string> {
    const root = await makeTempDir("memory");
    try {
      await writeFiles(root.path, { "cgroup.controllers": "", "a/memory.max": "64000000" });
      const memory = new BuildCgroup("/a", root.path).beginBuild();
      await writeFiles(join(root.path, "a"), { "memory.events": "oom_kill 1" });
      return (explainingStepsEnd(failed(details), { memory, notRun: [] }) as StepFailure).failure.message;
    } finally {
      await root.remove();
    }
  }

  test("reports the memory limit when a RUN step failed", async () => {
    expect(await blamed({})).toStartWith(`${RUN_STEP} (builds in /a may use 64 MB of memory`);
  });

  test("does not report it for another failure", async () => {
    expect(await blamed({ message: "dockerfile parse error" })).toBe("dockerfile parse error");
    expect(await blamed({ code: "DISK_FULL" })).toBe(RUN_STEP);
  });

  test("names the signal that ended a step, for which the limit was not the reason", () => {
    const step = 'process "/bin/sh -c x" did not complete successfully: ';
    const explained = (end: string) => {
      const error = explainingStepsEnd(failed({ message: `${step}${end}` }), {
        memory: undefined,
        notRun: [],
      });
      return (error as StepFailure).failure.message.slice(step.length);
    };
    expect(explained("exit code: 137")).toMatch(/^exit code: 137 \(128 \+ 9: SIGKILL .* memory was short\)$/);
    expect(explained("exit code: 143")).toMatch(/^exit code: 143 \(128 \+ 15: SIGTERM .* step\)$/);
    for (const end of ["exit code: 1", "exit code: 128", "exit code: 255", "mkdir /x: exit code: 137"])
      expect(explained(end)).toBe(end);
  });

  test("names platforms whose programs the worker cannot run, for a step that failed", () => {
    const explained = (message: string) => {
      const error = explainingStepsEnd(failed({ message }), { memory: undefined, notRun: ["linux/s390x"] });
      return (error as StepFailure).failure.message;
    };
    expect(explained(RUN_STEP)).toBe(
      `${RUN_STEP} (steps on linux/s390x need an emulator, or a worker of that platform: this worker has neither)`,
    );
    expect(explained("not found")).toBe("not found");
  });

  test("reports nothing when builds have no memory limit", () => {
    const error = failed({});
    expect(explainingStepsEnd(error, { memory: undefined, notRun: [] })).toBe(error);
  });
});
