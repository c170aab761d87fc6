/** Builds in a control group whose limits the kernel enforces. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { BuildCgroup } from "../../../../src/worker/build-cgroup/build-cgroup.ts";
import { RunCancelled } from "../../../../src/worker/job/cancellation.ts";
import { checkBuildCgroup } from "../../../../src/worker/settings/build-cgroup.ts";
import {
  makeControlGroup,
  missingControlGroups,
  type TestControlGroup,
} from "../../../support/machine/control-groups.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { sampleRepository } from "../../../support/machine/sample-repository.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { missingDockerEngine } from "../../../support/servers/docker-engines.ts";
import { type PipelineBench, type StartedRun, startPipelineBench } from "../pipeline/pipeline-bench.ts";

const LIMITS = { memoryBytes: 2 ** 26, cpus: 0.2, processes: 40 };
const EATS_256_MB = "/bin/busybox dd if=/dev/zero of=/dev/null bs=256M count=1";
const reason = (await missingControlGroups()) ?? (await missingDockerEngine("26.1"));

for (const storage of ["containerd", "overlay2"] as const) {
  const declare = reason === undefined ? inFullCheck(storage !== "containerd").describe : describe.skip;
  declare(`builds in a control group, on ${storage}${reason ? ` (${reason})` : ""}`, () => {
    let bench: PipelineBench;
    let group: TestControlGroup;

    beforeAll(async () => {
      group = await makeControlGroup(LIMITS);
      bench = await startPipelineBench({ engine: "26.1", storage });
    });
    afterAll(async () => {
      await bench?.stop();
      await group?.remove();
    });

    async function repositoryOf(script: string): Promise<string> {
      const name = bench.unique("acme/limited");
      const step = JSON.stringify(["/bin/busybox", "sh", "-c", script]);
      const Dockerfile = `FROM scratch\nCOPY bin/busybox /bin/busybox\nCOPY greeting /greeting\nRUN ${step}\n`;
      await bench.git.createRepository(name, { ...(await sampleRepository({ greeting: name })), Dockerfile });
      return name;
    }

    /** In the group, unless another path is passed. */
    function start(repoUrl: string, path: string | undefined = group.path): StartedRun {
      return bench.start({ repoUrl }, { parts: { buildCgroup: new BuildCgroup(path) } });
    }

    const untilEmpty = ({ processes }: TestControlGroup) =>
      waitFor(async () => (await processes()).length === 0, {
        timeoutMs: 30_000,
        what: "the group to be empty",
      });

    const printed = (run: StartedRun) => run.lines.filter((line) => /^#\d+ \d+\.\d+ /.test(line)).join("\n");

    test("the limits are read, and a build within them succeeds", async () => {
      expect(checkBuildCgroup({ buildCgroup: group.path }, undefined)).toEqual([]);
      expect(new BuildCgroup(group.path).describe()).toBe("memory 67 MB, CPUs 0.2, processes 40");
      const { name } = await bench.createSample();
      expect(await start(name).end).toMatchObject({ status: "SUCCESS" });
    });

    test("a step's processes are in the group, and end with a cancel", async () => {
      const run = start(await repositoryOf("echo the step is running; /bin/busybox sleep 300"));
      await run.waitForLine(/^#\d+ \d+\.\d+ the step is running/);
      expect((await group.processes()).length).toBeGreaterThan(0);
      run.abort(new RunCancelled("enough"));
      expect(await run.end).toMatchObject({ status: "CANCELLED" });
      await untilEmpty(group);
    });

    test("a step that needs more memory fails, and the failure names the limit", async () => {
      const end = await start(await repositoryOf(EATS_256_MB)).end;
      expect(end).toMatchObject({
        status: "FAILED",
        failure: { code: "BUILD_FAILED", step: "build", retryable: false },
      });
      expect(end.failure?.message).toMatch(/: (exit code: 137|cannot allocate memory) \(builds in /);
      expect(end.failure?.message).toContain(group.path);
      expect(end.failure?.message).toContain("67 MB of memory");
    });

    test("a failure for another reason does not mention memory", async () => {
      const end = await start(await repositoryOf("exit 3")).end;
      expect(end).toMatchObject({ status: "FAILED", failure: { code: "BUILD_FAILED" } });
      expect(end.failure?.message).toEndWith("exit code: 3");
    });

    test("a step that starts too many processes fails, and the next build succeeds", async () => {
      const many =
        "i=0; while [ $i -lt 200 ]; do /bin/busybox sleep 300 & i=$((i+1)); done; echo all started";
      const run = start(await repositoryOf(many));
      expect(await run.end).toMatchObject({ status: "FAILED", failure: { code: "BUILD_FAILED" } });
      expect(printed(run)).toContain("can't fork");
      const { name } = await bench.createSample();
      expect(await start(name).end).toMatchObject({ status: "SUCCESS" });
    });

    test("a step that needs more CPU time is throttled", async () => {
      const slow = await makeControlGroup({ ...LIMITS, cpus: 0.02 });
      try {
        // It never stops using the CPU, so the group has to throttle it at some time, however busy the machine is.
        const run = start(await repositoryOf("while :; do :; done"), slow.path);
        const isThrottled = async () => (await slow.throttledPeriods()) > 0;
        await waitFor(isThrottled, { timeoutMs: 50_000, what: "the step to be throttled" }).finally(() =>
          run.abort(new RunCancelled("enough")),
        );
        expect(await run.end).toMatchObject({ status: "CANCELLED" });
        await untilEmpty(slow);
      } finally {
        await slow.remove();
      }
    });

    test("a step's cached result in one group is not used in another", async () => {
      const name = await repositoryOf("echo the step runs");
      const first = start(name);
      expect(await first.end).toMatchObject({ status: "SUCCESS" });
      expect(printed(first)).toContain("the step runs");
      const again = start(name);
      expect(await again.end).toMatchObject({ status: "SUCCESS" });
      expect(printed(again)).not.toContain("the step runs");
      const other = await makeControlGroup(LIMITS);
      try {
        const elsewhere = start(name, other.path);
        expect(await elsewhere.end).toMatchObject({ status: "SUCCESS" });
        expect(printed(elsewhere)).toContain("the step runs");
      } finally {
        await other.remove();
      }
    });

    test("no build runs in a missing group, and the group is not created", async () => {
      const { name } = await bench.createSample();
      const absent = new BuildCgroup(`${group.path}-absent`);
      const run = start(name, absent.path);
      expect(await run.end).toMatchObject({
        status: "FAILED",
        failure: { code: "INTERNAL", step: "build", retryable: true },
      });
      expect(checkBuildCgroup({ buildCgroup: absent.path }, undefined)).toHaveLength(1);
    });

    test("a build without a control group has no limit", async () => {
      const run = bench.start({ repoUrl: await repositoryOf(EATS_256_MB) });
      expect(await run.end).toMatchObject({ status: "SUCCESS" });
    });
  });
}
