/** Jobs that are cancelled in every state: no process of them remains, and each has one result. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ADMIN_ENV, apiRequest } from "../../support/blacktree/admin-api.ts";
import { compiledBinaries } from "../../support/blacktree/binaries.ts";
import {
  bodyOf,
  type OrchestratorProcess,
  SHORT_LEASE,
  shownJob,
  untilFree,
  untilState,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import {
  anyOf,
  expectNothingLeft,
  expectSuccess,
  faultSite,
  holderOf,
  holdPush,
  runsStarted,
  type SampleJob,
  sampleJob,
  tagPuts,
} from "../../support/blacktree/fault-site.ts";
import { runFolders } from "../../support/blacktree/run-folders.ts";
import { commandLines } from "../../support/blacktree/running-programs.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import type { HeldRequests } from "../../support/machine/held-requests.ts";
import { run } from "../../support/machine/processes.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import type { DockerEngine } from "../../support/servers/docker-engines.ts";
import { borrowDockerEngine } from "../../support/servers/pool.ts";

const site = faultSite();
let olderEngine: DockerEngine;

beforeAll(async () => {
  olderEngine = await borrowDockerEngine("20.10");
});

afterAll(() => olderEngine?.stop());

let sleepers = 0;

/** A build that does not end by itself, with a sleep time that no other process on this machine has. */
async function endlessJob(): Promise<{ job: SampleJob; isAsleep(): Promise<boolean> }> {
  sleepers += 1;
  const sleepSeconds = 10_000 + (process.pid % 10_000) * 100 + sleepers;
  const job = await sampleJob(site.backends, { variant: "slow", sleepSeconds });
  const command = `/bin/busybox sleep ${sleepSeconds}`;
  return { job, isAsleep: async () => (await commandLines()).includes(command) };
}

async function cancel(
  { apiUrl }: Pick<OrchestratorProcess, "apiUrl">,
  { job_id }: Pick<SampleJob, "job_id">,
  reason = "not wanted",
): Promise<Response> {
  return apiRequest(apiUrl, `/api/v1/jobs/${job_id}/cancel`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ reason }),
  });
}

async function expectCancelled(job: SampleJob, details: object): Promise<void> {
  const { job_id, ecr_repo, deployment_version } = job;
  const result = await site.deployment.nextResult();
  expect(result).toMatchObject({ job_id, status: "CANCELLED", ecr_repo, deployment_version, ...details });
  expect(result.error).toMatchObject({ code: "CANCELLED", retryable: false });
  expect(result.error?.message).toContain("not wanted");
  expect(tagPuts(site, job)).toEqual([]);
}

/**
 * A job's result may be published before its message is removed from its ready queue. The orchestrator that receives
 * the message neither runs the job nor answers again: the message precedes the next job, and the next result is that
 * job's.
 */
async function expectNextResultIsOfNextJob(orchestrator: OrchestratorProcess, job: SampleJob): Promise<void> {
  const worker = await site.deployment.startWorker(orchestrator);
  const next = await sampleJob(site.backends, { variant: "working" });
  await site.deployment.publish(next);
  await expectSuccess(site, next);
  await untilFree(orchestrator, worker);
  expect(runsStarted(worker, job)).toBe(0);
}

describe.each(["26.1", "20.10"] as const)("cancel: a build by Docker %s", (engine) => {
  inFullCheck(engine !== "26.1").test("is ended with all its processes", async () => {
    const docker = engine === "26.1" ? site.backends.docker : olderEngine;
    const deployment = await site.deploy({ docker });
    const orchestrator = await deployment.startOrchestrator();
    const worker = await deployment.startWorker(orchestrator);
    const events = await deployment.watchEvents();
    const { job, isAsleep } = await endlessJob();
    await deployment.publish(job);
    await waitFor(isAsleep, { timeoutMs: 30_000, what: "the build to sleep" });

    const response = await cancel(orchestrator, job);
    expect(response.status).toBe(202);
    expect(await response.json()).toMatchObject({ job_id: job.job_id });
    await expectCancelled(job, { attempt: 1, worker_id: worker.id });
    await waitFor(async () => !(await isAsleep()), { timeoutMs: 30_000, what: "the build's end" });
    expect(await runFolders(worker.workDir)).toEqual([]);
    await waitFor(() => events.at(-1)?.state === "CANCELLED", { timeoutMs: 30_000, what: "the last event" });
    expect((await cancel(orchestrator, job)).status).toBe(202);
    await untilFree(orchestrator, worker);
    await expectNothingLeft(deployment, orchestrator);
  });
});

test("cancel: the command line cancels a running job through an orchestrator that does not run it", async () => {
  const deployment = await site.deploy();
  const both = await Promise.all([deployment.startOrchestrator(), deployment.startOrchestrator()]);
  const worker = await deployment.startWorker(anyOf(...both));
  const { job, isAsleep } = await endlessJob();
  await deployment.publish(job);
  await waitFor(isAsleep, { timeoutMs: 30_000, what: "the build to sleep" });
  const [holder, other] = await holderOf(job, both, "job assigned");

  const { cli } = await compiledBinaries();
  const flags = ["--api", other.apiUrl, "--reason", "not wanted", "--wait"];
  const { exitCode, stdout } = await run([cli, "cancel", job.job_id, ...flags], { env: ADMIN_ENV });
  expect([exitCode, stdout]).toEqual([
    0,
    expect.stringMatching(/^CANCELLED .* CANCELLED at build: .*not wanted/),
  ]);
  await expectCancelled(job, { attempt: 1, worker_id: worker.id });
  await untilFree(other, worker);
  await expectNothingLeft(deployment, holder, other);
});

test("cancel: a waiting job gets its result at once, and never runs", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const job = await sampleJob(site.backends, { variant: "working" });
  await deployment.amqp.assertQueue("answers");
  await deployment.publish(
    { ...job, region: "eu-west-1", worker_region: "us-east-1" },
    {
      replyTo: "answers",
      correlationId: "c-1",
    },
  );
  await untilState(orchestrator, job.job_id, "QUEUED");

  const response = await cancel(orchestrator, job);
  expect([response.status, await response.json()]).toEqual([202, { job_id: job.job_id, state: "CANCELLED" }]);
  const answer = await deployment.next("answers");
  expect(answer.properties).toMatchObject({ messageId: job.job_id, correlationId: "c-1" });
  expect(bodyOf(answer)).toMatchObject({ job_id: job.job_id, status: "CANCELLED", region: "eu-west-1" });
  await expectCancelled(job, { attempt: 0, worker_id: null, region: "eu-west-1" });

  await expectNextResultIsOfNextJob(orchestrator, job);
  await expectNothingLeft(deployment, orchestrator);
});

test("cancel: a job that waits behind others for longer than BLACKTREE_JOB_MEMORY never runs", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator({ BLACKTREE_JOB_MEMORY: "1s" });
  const first = await sampleJob(site.backends, { variant: "working" });
  const job = await sampleJob(site.backends, { variant: "working" });
  for (const each of [first, job]) {
    await deployment.publish(each);
    await untilState(orchestrator, each.job_id, "QUEUED");
  }
  await cancel(orchestrator, job);
  await expectCancelled(job, { attempt: 0 });
  await waitFor(async () => !(await deployment.redisContents()).includes(`:cancelled:${job.job_id}`), {
    timeoutMs: 30_000,
    what: "the job memory to pass",
  });

  const worker = await deployment.startWorker(orchestrator);
  await expectSuccess(site, first);
  const next = await sampleJob(site.backends, { variant: "working" });
  await deployment.publish(next);
  await expectSuccess(site, next);
  await untilFree(orchestrator, worker);
  expect(runsStarted(worker, job)).toBe(0);
  await expectNothingLeft(deployment, orchestrator);
});

test("cancel: a message with a cancelled job's id gets the same result again", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const job = await sampleJob(site.backends, { variant: "working" });
  await deployment.publish(job);
  await untilState(orchestrator, job.job_id, "QUEUED");
  await cancel(orchestrator, job);
  await expectCancelled(job, { attempt: 0 });
  await deployment.publish(job);
  await expectCancelled(job, { attempt: 0 });
  await expectNothingLeft(deployment, orchestrator);
});

test("cancel: a job that waits for its next attempt has no further attempt", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator(SHORT_LEASE);
  const lost = await deployment.startWorker(orchestrator);
  const { job, isAsleep } = await endlessJob();
  await deployment.publish(job);
  await waitFor(isAsleep, { timeoutMs: 30_000, what: "the build to sleep" });
  await lost.process.kill();
  await untilState(orchestrator, job.job_id, "RETRYING");

  await cancel(orchestrator, job);
  await expectCancelled(job, { attempt: 1 });
  const worker = await deployment.startWorker(orchestrator, { BLACKTREE_WORK_DIR: lost.workDir });
  const next = await sampleJob(site.backends, { variant: "working" });
  await deployment.publish(next);
  await expectSuccess(site, next);
  await untilFree(orchestrator, worker);
  await expectNothingLeft(deployment, orchestrator);
  // Only now has the message of the cancelled job passed its delay and been consumed.
  expect(runsStarted(worker, job)).toBe(0);
});

describe("cancel: a worker is lost while its job is cancelled:", () => {
  interface Scene {
    readonly orchestrator: OrchestratorProcess;
    readonly worker: WorkerProcess;
    readonly job: SampleJob;
    readonly held: HeldRequests;
  }

  async function startScene(env: Record<string, string> = {}): Promise<Scene> {
    const deployment = await site.deploy();
    const orchestrator = await deployment.startOrchestrator(env);
    const worker = await deployment.startWorker(orchestrator);
    const job = await sampleJob(site.backends, { variant: "working" });
    const held = site.keep(holdPush(site.backends, job));
    await deployment.publish(job);
    await untilState(orchestrator, job.job_id, "BUILDING");
    return { orchestrator, worker, job, held };
  }

  inFullCheck().test("killed before the cancel, the job is cancelled without another attempt", async () => {
    const { orchestrator, worker, job } = await startScene();
    await worker.process.kill();
    expect((await cancel(orchestrator, job)).status).toBe(202);
    await expectCancelled(job, { attempt: 1 });
    const states = (await shownJob(orchestrator, job.job_id))?.events.map(({ state }) => state);
    expect(states).not.toContain("RETRYING");
    await expectNextResultIsOfNextJob(orchestrator, job);
    await expectNothingLeft(site.deployment, orchestrator);
  });

  test("frozen, it puts no tag when it resumes", async () => {
    const { orchestrator, worker, job, held } = await startScene(SHORT_LEASE);
    worker.process.pause();
    expect((await cancel(orchestrator, job)).status).toBe(202);
    await expectCancelled(job, { attempt: 1 });
    held.release();
    worker.process.resume();
    await worker.process.waitForLine("run ended", { timeoutMs: 30_000 });
    await untilFree(orchestrator, worker);
    expect(tagPuts(site, job)).toEqual([]);
    await expectNothingLeft(site.deployment, orchestrator);
  });

  inFullCheck().test("and the orchestrator too, another orchestrator publishes the result", async () => {
    const { orchestrator, worker, job } = await startScene();
    worker.process.pause();
    await cancel(orchestrator, job);
    await Promise.all([orchestrator.process.kill(), worker.process.kill()]);
    const other = await site.deployment.startOrchestrator();
    await expectCancelled(job, {});
    await expectNextResultIsOfNextJob(other, job);
    await expectNothingLeft(site.deployment, other);
  });
});

test("cancel: a later job with the same key supersedes waiting and running ones", async () => {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator);
  const { job: running, isAsleep } = await endlessJob();
  await deployment.publish({ ...running, supersede: "main" });
  await waitFor(isAsleep, { timeoutMs: 30_000, what: "the build to sleep" });
  const jobs = await Promise.all([1, 2, 3].map(() => sampleJob(site.backends, { variant: "working" })));
  const [other, waiting, latest] = jobs as [SampleJob, SampleJob, SampleJob];
  await deployment.publish({ ...other, supersede: "another branch" });
  await untilState(orchestrator, other.job_id, "QUEUED");
  expect(await deployment.depth("jobs.results")).toBe(0);
  // Both of them supersede the running one, in either order.
  await deployment.publish({ ...waiting, supersede: "main" });
  await untilState(orchestrator, waiting.job_id, "QUEUED");
  await deployment.publish({ ...latest, supersede: "main" });

  const results = [];
  for (const _job of [running, other, waiting, latest]) results.push(await deployment.nextResult());
  const ends = Object.fromEntries(results.map(({ job_id, status }) => [job_id, status]));
  expect(ends).toMatchObject({
    [running.job_id]: "CANCELLED",
    [other.job_id]: "SUCCESS",
    [latest.job_id]: "SUCCESS",
  });
  const superseded = results.find(({ job_id }) => job_id === running.job_id);
  expect(superseded?.error?.message).toContain(`superseded by job ${waiting.job_id}`);
  await untilFree(orchestrator, worker);
  await expectNothingLeft(deployment, orchestrator);
});
