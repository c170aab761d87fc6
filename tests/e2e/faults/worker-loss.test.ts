/** Workers that crash or freeze while they build: the job is tried again elsewhere, and leaves nothing behind. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import {
  type OrchestratorProcess,
  SHORT_LEASE,
  shownWorkers,
  untilFree,
  untilState,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import {
  expectNothingLeft,
  expectSuccess,
  faultSite,
  holderOf,
  holdPush,
  linesAbout,
  runsStarted,
  type SampleJob,
  sampleJob,
  tagPuts,
} from "../../support/blacktree/fault-site.ts";
import { programsOfRuns, untilNoProgramRuns } from "../../support/blacktree/running-programs.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import type { HeldRequests } from "../../support/machine/held-requests.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import type { DockerEngine } from "../../support/servers/docker-engines.ts";
import { borrowDockerEngine } from "../../support/servers/pool.ts";

const site = faultSite();
let olderEngine: DockerEngine;

beforeAll(async () => {
  olderEngine = await borrowDockerEngine("20.10");
});

afterAll(() => olderEngine?.stop());

/** Resolves when the starting worker has removed everything that the crashed one had left. */
async function restart(
  crashed: WorkerProcess,
  orchestrator: Pick<OrchestratorProcess, "grpcAddress">,
): Promise<WorkerProcess> {
  const worker = await site.deployment.startWorker(orchestrator, { BLACKTREE_WORK_DIR: crashed.workDir });
  await worker.process.waitForLine("cleaned up after a crashed worker");
  expect(await readdir(join(crashed.workDir, "runs"))).toEqual([worker.incarnation]);
  return worker;
}

const putOfVersion = ({ ecr_repo, deployment_version }: SampleJob) => ({
  method: "PUT",
  path: new RegExp(`^/v2/${ecr_repo}/manifests/${deployment_version}$`),
});

interface Moment {
  readonly step: string;
  /** Holds the job's first run in this step. */
  hold(job: SampleJob): Pick<HeldRequests, "arrived" | "release">;
  readonly olderEngine?: true;
  /** Programs run then, and outlive their worker. Those that print progress may end because their reader is gone. */
  readonly leavesPrograms?: true;
  /** Requests for the tag, including the first run's. */
  readonly tagPuts?: number;
  /** Only the full check has it. */
  readonly isFullOnly?: true;
}

const MOMENTS: readonly Moment[] = [
  { step: "cloning", hold: () => site.backends.git.hold(), leavesPrograms: true },
  {
    step: "authenticating",
    hold: () => site.backends.aws.hold("GetAuthorizationToken"),
    isFullOnly: true,
  },
  { step: "pushing", hold: (job) => holdPush(site.backends, job), isFullOnly: true },
  {
    step: "pushing through an older engine",
    hold: (job) => holdPush(site.backends, job),
    olderEngine: true,
    isFullOnly: true,
  },
  {
    step: "tagging, before the registry has put the tag",
    hold: (job) => site.backends.ecr.hold(putOfVersion(job)),
    tagPuts: 2,
  },
  {
    step: "tagging, when the registry has put the tag",
    hold: (job) => site.backends.ecr.holdAnswers(putOfVersion(job)),
  },
];

async function attemptImages(engine: DockerEngine): Promise<string[]> {
  const { stdout } = await engine.docker(["images", "--format={{.Repository}}:{{.Tag}}"]);
  return stdout.split("\n").filter((name) => name.includes(":blacktree-"));
}

for (const { step, hold, leavesPrograms, tagPuts: puts = 1, ...moment } of MOMENTS) {
  inFullCheck(moment.isFullOnly ?? false).test(
    `worker loss: a worker is killed while it is ${step}: the next attempt succeeds, and nothing of it is left behind`,
    async () => {
      const docker = moment.olderEngine ? olderEngine : site.backends.docker;
      const deployment = await site.deploy({ docker });
      const orchestrator = await deployment.startOrchestrator(SHORT_LEASE);
      const crashed = await deployment.startWorker(orchestrator);
      const job = await sampleJob(site.backends, { variant: "working" });
      const held = site.keep(hold(job));
      await deployment.publish(job);
      await held.arrived;
      await crashed.process.kill();
      if (leavesPrograms) expect(await programsOfRuns(crashed.workDir)).not.toEqual([]);
      if (moment.olderEngine) expect(await attemptImages(docker)).toHaveLength(1);

      const worker = await restart(crashed, orchestrator);
      await untilNoProgramRuns(crashed.workDir);
      if (moment.olderEngine) expect(await attemptImages(docker)).toEqual([]);
      held.release();
      await expectSuccess(site, job, { worker, attempt: 2 });
      await untilFree(orchestrator, worker);
      expect(tagPuts(site, job)).toHaveLength(puts);
      if (moment.olderEngine) expect(await attemptImages(docker)).toEqual([]);
      // A push through an older engine needs a tag of the attempt, and this registry does not delete tags.
      else expect(await site.backends.registry.listTags(job.ecr_repo)).toEqual([job.deployment_version]);
      await expectNothingLeft(deployment, orchestrator);
    },
  );
}

test("worker loss: a worker is killed while it is building: it gets no more jobs, and its job succeeds on another one", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator(SHORT_LEASE);
  const workers = await Promise.all([
    deployment.startWorker(orchestrator),
    deployment.startWorker(orchestrator),
  ]);
  const events = await deployment.watchEvents();
  const job = await sampleJob(site.backends);
  const held = site.keep(holdPush(site.backends, job));
  await deployment.publish(job);
  const [lost, other] = await holderOf(job, workers, "run started");
  await untilState(orchestrator, job.job_id, "BUILDING");
  await lost.process.kill();
  held.release();
  await waitFor(
    async () => (await shownWorkers(orchestrator)).find(({ id }) => id === lost.id)?.status === "LOST",
    { timeoutMs: 30_000, what: `${lost.id} to be lost` },
  );

  await expectSuccess(site, job, { worker: other, attempt: 2 });
  const retrying = events.filter(({ state }) => state === "RETRYING");
  expect(retrying).toMatchObject([
    { job_id: job.job_id, attempt: 1, worker_id: lost.id, error: { code: "WORKER_LOST", retryable: true } },
  ]);
  await untilFree(orchestrator, other);
  expect(tagPuts(site, job)).toHaveLength(1);
  await expectNothingLeft(deployment, orchestrator);
});

test("worker loss: a worker freezes until another one has built its job: it abandons the stale run, and accepts other jobs", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator(SHORT_LEASE);
  const workers = await Promise.all([
    deployment.startWorker(orchestrator),
    deployment.startWorker(orchestrator),
  ]);
  const job = await sampleJob(site.backends);
  const held = site.keep(holdPush(site.backends, job));
  await deployment.publish(job);
  const [frozen, other] = await holderOf(job, workers, "run started");
  await untilState(orchestrator, job.job_id, "BUILDING");
  frozen.process.pause();
  held.release();
  await expectSuccess(site, job, { worker: other, attempt: 2 });

  frozen.process.resume();
  await frozen.process.waitForLine("no ping for a lease time, registering again");
  await untilFree(orchestrator, frozen);
  const ended = await waitFor(() => linesAbout(frozen, job, "run ended")[0], {
    timeoutMs: 30_000,
    what: "the end of the stale run",
  });
  expect(ended).not.toContain('"status":"SUCCESS"');
  expect(tagPuts(site, job)).toHaveLength(1);

  await other.process.stop();
  const next = await sampleJob(site.backends, { variant: "working" });
  await deployment.publish(next);
  await expectSuccess(site, next, { worker: frozen });
  await untilFree(orchestrator, frozen);
  expect(tagPuts(site, job)).toHaveLength(1);
  await expectNothingLeft(deployment, orchestrator);
});

test("worker loss: a job that crashes its worker each time is not given a third one", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator({ ...SHORT_LEASE, BLACKTREE_MAX_ATTEMPTS: "5" });
  const events = await deployment.watchEvents();
  const job = await sampleJob(site.backends, { variant: "working" });
  // No attempt ends before its worker is killed.
  site.keep(holdPush(site.backends, job));
  let worker = await deployment.startWorker(orchestrator);
  await deployment.publish(job);
  for (const _attempt of [1, 2]) {
    await worker.process.waitForLine("run started", { timeoutMs: 30_000 });
    await worker.process.kill();
    worker = await restart(worker, orchestrator);
  }

  expect(await deployment.nextResult()).toMatchObject({
    job_id: job.job_id,
    status: "FAILED",
    attempt: 2,
    error: {
      code: "WORKER_LOST",
      retryable: false,
      message: expect.stringContaining("2 workers were lost while they ran this job"),
    },
  });
  await waitFor(() => events.at(-1)?.state === "FAILED", { timeoutMs: 30_000, what: "the last event" });
  expect(events.filter(({ state }) => state === "RETRYING")).toHaveLength(1);
  await untilFree(orchestrator, worker);
  expect(runsStarted(worker, job)).toBe(0);
  expect(tagPuts(site, job)).toEqual([]);
  await expectNothingLeft(deployment, orchestrator);
});
