/** Programs that do not end by themselves: the end of a run ends everything that it has started. */
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import {
  type OrchestratorProcess,
  untilFree,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import {
  expectNothingLeft,
  expectSuccess,
  faultSite,
  runsStarted,
  type SampleJob,
  sampleJob,
} from "../../support/blacktree/fault-site.ts";
import { runFolders } from "../../support/blacktree/run-folders.ts";
import { commandLines, untilNoProgramRuns } from "../../support/blacktree/running-programs.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { timedOutInStep } from "../../support/machine/growing-timeout.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import type { DockerEngine } from "../../support/servers/docker-engines.ts";
import { borrowDockerEngine } from "../../support/servers/pool.ts";

const site = faultSite();
let olderEngine: DockerEngine;
let folder: TempDir;

beforeAll(async () => {
  [olderEngine, folder] = await Promise.all([borrowDockerEngine("20.10"), makeTempDir("programs")]);
});

afterAll(async () => {
  await olderEngine?.stop();
  await folder?.remove();
});

/** Longer than any test waits, and different from all other sleeps on this machine. */
let sleepSeconds = 500_000 + (process.pid % 10_000) * 10;
beforeEach(() => {
  sleepSeconds += 1;
});

const sleeping = async () => (await commandLines()).filter((line) => line.includes(`sleep ${sleepSeconds}`));

/** A `git` that leaves a process behind each time: in a new session, with git's stdout and stderr open. */
async function gitWithGrandchild(): Promise<string> {
  const program = join(folder.path, "git");
  const lines = ["#!/bin/sh", `setsid sleep ${sleepSeconds} &`, `exec ${Bun.which("git")} "$@"`];
  await Bun.write(program, `${lines.join("\n")}\n`);
  await chmod(program, 0o755);
  return `${folder.path}:${site.backends.docker.env().PATH}`;
}

async function expectNothingRuns(
  orchestrator: OrchestratorProcess,
  worker: WorkerProcess,
  job: SampleJob,
): Promise<void> {
  await untilFree(orchestrator, worker);
  expect(runsStarted(worker, job)).toBe(1);
  expect(await runFolders(worker.workDir)).toEqual([]);
  await expectNothingLeft(site.deployment, orchestrator);
}

test("worker loss: a grandchild that keeps stdout open does not delay the end of its run, and does not outlive it", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator, { PATH: await gitWithGrandchild() });
  const job = await sampleJob(site.backends, { variant: "slow", sleepSeconds: 1 });
  await deployment.publish(job);
  await waitFor(async () => (await sleeping()).length > 0, { timeoutMs: 30_000, what: "the grandchild" });
  await expectSuccess(site, job, { worker });
  await waitFor(async () => (await sleeping()).length === 0, {
    timeoutMs: 30_000,
    what: "the grandchildren to end",
  });
  await untilNoProgramRuns(worker.workDir);
  await expectNothingRuns(orchestrator, worker, job);
});

for (const engine of ["26.1", "20.10"] as const) {
  inFullCheck(engine !== "26.1").test(
    `timeout: a build that ignores SIGTERM is ended after its timeout, on Docker ${engine}`,
    async () => {
      const docker = engine === "20.10" ? olderEngine : site.backends.docker;
      const deployment = await site.deploy({ docker });
      const orchestrator = await deployment.startOrchestrator();
      const worker = await deployment.startWorker(orchestrator);
      const isAsleep = async () => (await sleeping()).length > 0;
      const job = await sampleJob(site.backends, { variant: "stubborn", sleepSeconds });
      let job_id = "";
      const result = await timedOutInStep(isAsleep, async (timeout_seconds) => {
        job_id = `${job.job_id}-${timeout_seconds}`;
        await deployment.publish({ ...job, job_id, timeout_seconds });
        return deployment.nextResult((timeout_seconds + 60) * 1000);
      });
      expect(result).toMatchObject({
        job_id,
        status: "FAILED",
        attempt: 1,
        error: { code: "TIMEOUT", step: "build", retryable: false },
      });
      await untilNoProgramRuns(worker.workDir);
      await waitFor(async () => !(await isAsleep()), { timeoutMs: 30_000, what: "the RUN step to end" });
      expect((await docker.docker(["ps", "--all", "--quiet"])).stdout).toBe("");
      await expectNothingRuns(orchestrator, worker, { ...job, job_id });
    },
    300_000,
  );
}
