/** Workers with the same id, runs that another attempt has replaced, and the right to put a tag without Redis. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { credentials, status } from "@grpc/grpc-js";
import { callUnary } from "../../../src/shared/rpc/call.ts";
import { OrchestratorServiceClient } from "../../../src/shared/rpc/generated/blacktree/v1/orchestrator.ts";
import { JobRequest, WorkerServiceClient } from "../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import {
  type OrchestratorProcess,
  SHORT_LEASE,
  untilFree,
  untilReady,
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
  linesAbout,
  runsStarted,
  type SampleJob,
  sampleJob,
  tagPuts,
} from "../../support/blacktree/fault-site.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { startTcpProxy } from "../../support/servers/tcp-proxy.ts";

const site = faultSite();
let redis: Redis;

beforeEach(async () => {
  redis = await startRedis();
  await site.deploy({ redis });
});

afterEach(() => redis.stop());

const DEADLINE = { deadlineMs: 60_000 };

/** Calls RunJob as an orchestrator does; rejects with the refusal. */
async function runJob(worker: WorkerProcess, request: Partial<JobRequest>): Promise<unknown> {
  const client = new WorkerServiceClient(worker.address, credentials.createInsecure());
  try {
    return await callUnary(client.runJob.bind(client), JobRequest.create(request), DEADLINE);
  } finally {
    client.close();
  }
}

function requestOf(job: SampleJob, worker: WorkerProcess, attempt: number): Partial<JobRequest> {
  return {
    jobId: job.job_id,
    attempt,
    incarnation: worker.incarnation,
    repoUrl: job.repo_url,
    branch: job.branch,
    deploymentVersion: job.deployment_version,
    awsAccount: job.aws_account,
    ecrRepo: job.ecr_repo,
    region: "us-east-1",
    timeoutMs: 60_000,
  };
}

async function confirmLease(
  { grpcAddress }: OrchestratorProcess,
  job: SampleJob,
  worker: WorkerProcess,
  attempt: number,
) {
  const client = new OrchestratorServiceClient(grpcAddress, credentials.createInsecure());
  const request = {
    workerId: worker.id,
    incarnation: worker.incarnation,
    run: { jobId: job.job_id, attempt },
  };
  try {
    return await callUnary(client.confirmLease.bind(client), request, DEADLINE);
  } finally {
    client.close();
  }
}

test("fencing: a second worker with the id of a live one reports it, and waits for the end of its lease", async () => {
  const orchestrator = await site.deployment.startOrchestrator(SHORT_LEASE);
  const id = { BLACKTREE_WORKER_ID: "the-one" };
  const first = await site.deployment.startWorker(orchestrator, id);
  const second = await site.deployment.launchWorker(orchestrator, id);
  const warning = /"msg":"another live worker has this id or address, retrying until its lease expires"/;
  await second.process.waitForLine(warning, { timeoutMs: 30_000 });
  expect(second.process.exitCode).toBeNull();
  await orchestrator.process.waitForLine("worker refused: another live worker has its id");

  const before = await sampleJob(site.backends, { variant: "working" });
  await site.deployment.publish(before);
  await expectSuccess(site, before);
  expect([runsStarted(first, before), runsStarted(second, before)]).toEqual([1, 0]);

  await first.process.kill();
  await second.process.waitForLine('"msg":"registered"', { timeoutMs: 30_000 });
  const after = await sampleJob(site.backends, { variant: "working" });
  await site.deployment.publish(after);
  await expectSuccess(site, after);
  expect(runsStarted(second, after)).toBe(1);
  await untilFree(orchestrator, second);
  await expectNothingLeft(site.deployment, orchestrator);
});

inFullCheck().test(
  "fencing: a second worker that advertises the address of a live one is refused by name, until the first is gone",
  async () => {
    const orchestrator = await site.deployment.startOrchestrator();
    const first = await site.deployment.startWorker(orchestrator);
    const address = { BLACKTREE_WORKER_ADVERTISE: first.address };
    const second = await site.deployment.launchWorker(orchestrator, address);
    await second.process.waitForLine(new RegExp(`worker ${first.id} has the address ${first.address}`), {
      timeoutMs: 30_000,
    });
    await orchestrator.process.waitForLine("worker refused: another live worker has its address");

    const job = await sampleJob(site.backends, { variant: "working" });
    await site.deployment.publish(job);
    await expectSuccess(site, job, { worker: first });
    await untilFree(orchestrator, first);

    await first.process.stop();
    await second.process.waitForLine('"msg":"registered"', { timeoutMs: 30_000 });
    await expectNothingLeft(site.deployment, orchestrator);
  },
);

test("fencing: a worker refuses runs that are not addressed to it, and runs beyond its slots", async () => {
  const orchestrator = await site.deployment.startOrchestrator();
  const worker = await site.deployment.startWorker(orchestrator);
  const job = await sampleJob(site.backends);
  const held = site.keep(holdPush(site.backends, job));
  await site.deployment.publish(job);
  await untilState(orchestrator, job.job_id, "BUILDING");

  const misaddressed = { ...requestOf(job, worker, 1), incarnation: "another-start" };
  await expect(runJob(worker, misaddressed)).rejects.toMatchObject({ code: status.FAILED_PRECONDITION });
  const other = await sampleJob(site.backends, { variant: "working" });
  await expect(runJob(worker, requestOf(other, worker, 1))).rejects.toMatchObject({
    code: status.RESOURCE_EXHAUSTED,
  });
  held.release();
  await expectSuccess(site, job);
  await untilFree(orchestrator, worker);
  expect(runsStarted(worker, job)).toBe(1);
  await expectNothingLeft(site.deployment, orchestrator);

  // No orchestrator is left to receive this one.
  const direct = await sampleJob(site.backends, { variant: "failing" });
  const answer = await runJob(worker, requestOf(direct, worker, 2));
  expect(await runJob(worker, requestOf(direct, worker, 2))).toEqual(answer);
  await expect(runJob(worker, requestOf(direct, worker, 1))).rejects.toMatchObject({
    code: status.FAILED_PRECONDITION,
  });
  expect(runsStarted(worker, direct)).toBe(1);
});

test("fencing: without Redis, only the orchestrator that has the job's delivery confirms its lease", async () => {
  const orchestrators = await Promise.all([
    site.deployment.startOrchestrator(SHORT_LEASE),
    site.deployment.startOrchestrator(SHORT_LEASE),
  ]);
  const worker = await site.deployment.startWorker(anyOf(...orchestrators));
  const job = await sampleJob(site.backends, { variant: "working" });
  const held = site.keep(holdPush(site.backends, job));
  await site.deployment.publish(job);
  const [holder, other] = await holderOf(job, orchestrators, "job assigned");
  await held.arrived;
  await redis.kill();

  await expect(confirmLease(other, job, worker, 1)).rejects.toMatchObject({ code: status.UNAVAILABLE });
  await expect(confirmLease(holder, job, worker, 2)).rejects.toMatchObject({ code: status.UNAVAILABLE });
  expect(await confirmLease(holder, job, worker, 1)).toMatchObject({ granted: true });
  held.release();
  await expectSuccess(site, job);
  expect(tagPuts(site, job)).toHaveLength(1);

  await redis.start();
  await Promise.all(orchestrators.map(untilReady));
  await untilFree(holder, worker);
  await expectNothingLeft(site.deployment, ...orchestrators);
});

test("fencing: a worker that returns after its run was declared lost writes no tag, while the decision waits for the broker", async () => {
  const proxy = await startTcpProxy(site.backends.rabbitmq);
  try {
    const throughProxy = new URL(site.deployment.orchestratorEnv.RABBITMQ_URL ?? "");
    throughProxy.port = String(proxy.port);
    const orchestrator = await site.deployment.startOrchestrator({
      ...SHORT_LEASE,
      RABBITMQ_URL: throughProxy.href,
    });
    const worker = await site.deployment.startWorker(orchestrator);
    const job = await sampleJob(site.backends, { variant: "working" });
    const held = site.keep(holdPush(site.backends, job));
    await site.deployment.publish(job);
    await held.arrived;

    worker.process.pause();
    proxy.cut();
    await waitFor(() => linesAbout(orchestrator, job, "worker lost").length > 0, {
      timeoutMs: 30_000,
      what: "the run to be declared lost",
    });
    held.release();
    worker.process.resume();
    await waitFor(() => linesAbout(worker, job, "run ended").length > 0, {
      timeoutMs: 30_000,
      what: "the run to end",
    });
    expect(tagPuts(site, job)).toEqual([]);

    proxy.heal();
    await expectSuccess(site, job, { attempt: 2 });
    expect(tagPuts(site, job)).toHaveLength(1);
    await untilFree(orchestrator, worker);
    await expectNothingLeft(site.deployment, orchestrator);
  } finally {
    await proxy.stop();
  }
});
