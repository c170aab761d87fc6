/** Uses copies of the kernel's files, since a machine has only one version. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { BuildCgroup } from "../../../../src/worker/build-cgroup/build-cgroup.ts";
import { controlGroup, describeLimits } from "../../../../src/worker/build-cgroup/control-group.ts";
import { StepFailure } from "../../../../src/worker/job/failure.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { writeFiles } from "../../../support/machine/write-files.ts";

const KILLED = "exit code: 137";

let root: TempDir;
beforeEach(async () => {
  root = await makeTempDir("cgroup");
});
afterEach(() => root.remove());

const limitsOf = (path: string) => controlGroup(path, root.path).limits();

describe("version 2", () => {
  beforeEach(() => writeFiles(root.path, { "cgroup.controllers": "cpu memory pids\n" }));

  async function fill(path: string, files: Record<string, string>): Promise<void> {
    await writeFiles(join(root.path, path), files);
  }

  test("a value that is set is a limit, and max is not", async () => {
    await fill("/a.slice", {
      "memory.max": "4294967296\n",
      "cpu.max": "150000 100000\n",
      "pids.max": "200\n",
    });
    expect(limitsOf("/a.slice")).toEqual({ memoryBytes: 2 ** 32, cpus: 1.5, processes: 200 });
    await fill("/b/c", { "memory.max": "max\n", "cpu.max": "max 100000\n", "pids.max": "7\n" });
    expect(limitsOf("/b/c")).toEqual({ processes: 7 });
  });

  test("a controller that is not enabled has no limits", async () => {
    await fill("/a", { "cgroup.procs": "" });
    expect(controlGroup("/a", root.path).exists).toBe(true);
    expect(limitsOf("/a")).toEqual({});
    expect(controlGroup("/b", root.path).exists).toBe(false);
  });

  test("an OOM kill explains the failure, however the step ended", async () => {
    const events = (kills: number) => ({ "memory.events": `low 0\nmax 9\noom 4\noom_kill ${kills}\n` });
    await fill("/a", { "memory.max": "64000000", ...events(3) });
    const memory = new BuildCgroup("/a", root.path).beginBuild();
    expect(memory.oomMessage(KILLED)).toBeUndefined();
    await fill("/a", events(4));
    expect(memory.oomMessage("exit code: 2")).toBe(
      "builds in /a may use 64 MB of memory, and the kernel ended processes that needed more",
    );
  });

  test("without a memory limit, memory does not explain a failure", async () => {
    await fill("/a", { "pids.max": "7", "memory.max": "max", "memory.events": "oom_kill 0\n" });
    const memory = new BuildCgroup("/a", root.path).beginBuild();
    await fill("/a", { "memory.events": "oom_kill 1\n" });
    expect(memory.oomMessage(KILLED)).toBeUndefined();
  });
});

describe("version 1", () => {
  const UNLIMITED = "9223372036854771712\n";

  test("each controller has its own tree, and the group may be missing in some", async () => {
    await writeFiles(root.path, {
      "unified/cgroup.controllers": "",
      "memory/a/memory.use_hierarchy": "1\n",
      "memory/a/memory.limit_in_bytes": "4294967296\n",
      "cpu/a/cpu.cfs_quota_us": "50000\n",
      "cpu/a/cpu.cfs_period_us": "100000\n",
      "pids/a/pids.max": "200\n",
      "pids/b/pids.max": "7\n",
    });
    expect(limitsOf("/a")).toEqual({ memoryBytes: 2 ** 32, cpus: 0.5, processes: 200 });
    expect(limitsOf("/b")).toEqual({ processes: 7 });
    expect(controlGroup("/b", root.path).exists).toBe(true);
    expect(controlGroup("/c", root.path).exists).toBe(false);
  });

  test("-1, max and the largest number of pages mean no limit", async () => {
    await writeFiles(root.path, {
      "memory/a/memory.limit_in_bytes": UNLIMITED,
      "cpu/a/cpu.cfs_quota_us": "-1\n",
      "cpu/a/cpu.cfs_period_us": "100000\n",
      "pids/a/pids.max": "max\n",
    });
    expect(limitsOf("/a")).toEqual({});
  });

  test("a memory limit that does not apply to the groups below is ignored", async () => {
    await writeFiles(root.path, {
      "memory/a/memory.use_hierarchy": "0\n",
      "memory/a/memory.limit_in_bytes": "64000000\n",
    });
    expect(limitsOf("/a")).toEqual({});
  });

  test("only a killed step may have failed for memory", async () => {
    await writeFiles(root.path, { "memory/a/memory.limit_in_bytes": "64000000\n" });
    const memory = new BuildCgroup("/a", root.path).beginBuild();
    expect(memory.oomMessage("exit code: 2")).toBeUndefined();
    expect(memory.oomMessage(KILLED)).toBe(
      "builds in /a may use 64 MB of memory, which may have been too little",
    );
  });

  test("without a memory limit, memory does not explain a failure", async () => {
    await writeFiles(root.path, { "pids/a/pids.max": "7\n" });
    expect(new BuildCgroup("/a", root.path).beginBuild().oomMessage(KILLED)).toBeUndefined();
  });
});

test("limits are described for the log", () => {
  expect(describeLimits({ memoryBytes: 4e9, cpus: 1.5, processes: 200 })).toBe(
    "memory 4.0 GB, CPUs 1.5, processes 200",
  );
  expect(describeLimits({ cpus: 1 / 3 })).toBe("CPUs 0.33");
  expect(describeLimits({})).toBe("");
});

test("no build begins in a group that has lost its limits, and the failure is retryable", async () => {
  await writeFiles(root.path, { "cgroup.controllers": "", "a/pids.max": "7" });
  const cgroup = new BuildCgroup("/a", root.path);
  expect(() => cgroup.beginBuild()).not.toThrow();
  await writeFiles(root.path, { "a/pids.max": "max" });
  const error = await Promise.try(() => cgroup.beginBuild()).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(StepFailure);
  expect((error as StepFailure).failure).toMatchObject({ code: "INTERNAL", step: "build", retryable: true });
});
