/** Two of a kind: workers with one id, runs that are not the job's any more, and who may put a tag without Redis. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { credentials, status } from "@grpc/grpc-js";
import { callUnary } from "../../../src/shared/rpc/call.ts";
import { OrchestratorServiceClient } from "../../../src/shared/rpc/generated/blacktree/v1/orchestrator.ts";
import { JobRequest, WorkerServiceClient } from "../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import { type Backends, startBackends } from "../../support/backends.ts";
import {
  type Deployment,
  type OrchestratorProcess,
  startDeployment,
  untilFree,
  untilReady,
  untilState,
  type WorkerProcess,
} from "../../support/deployment.ts";
import {
  anyOf,
  expectNothingLeft,
  holdPush,
  runsStarted,
  type SampleJob,
  sampleJob,
  whoHas,
} from "../../support/fault-site.ts";
import type { HeldRequests } from "../../support/held-requests.ts";
import { type Redis, startRedis } from "../../support/redis.ts";

setDefaultTimeout(90_000);

let backends: Backends;
let redis: Redis;
let deployment: Deployment;
/** Of the test that runs; one that fails may not have let go. */
const holds: HeldRequests[] = [];

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1" });
}, 240_000);

beforeEach(async () => {
  redis = await startRedis();
  deployment = await startDeployment({ ...backends, redis });
}, 30_000);

afterEach(async () => {
  for (const held of holds.splice(0)) held.release();
  await deployment.stop();
  await redis.stop();
}, 60_000);

afterAll(() => backends?.stop(), 60_000);

const DEADLINE = { deadlineMs: 5000 };

/** RunJob as an orchestrator calls it; rejects with the refusal. */
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

test("a second worker with the id of a live one says so, and waits for the end of its lease", async () => {
  const orchestrator = await deployment.startOrchestrator();
  const id = { BLACKTREE_WORKER_ID: "the-one" };
  const first = await deployment.startWorker(orchestrator, id);
  const second = await deployment.launchWorker(orchestrator, id);
  const complaint = /"msg":"another live worker has this id; asking again until its lease ends"/;
  await second.process.waitForLine(complaint, { timeoutMs: 30_000 });
  expect(second.process.exitCode).toBeNull();
  await orchestrator.process.waitForLine("worker refused: another live worker has its id");

  const before = await sampleJob(backends, { variant: "working" });
  await deployment.publish(before);
  expect(await deployment.nextResult()).toMatchObject({ job_id: before.job_id, status: "SUCCESS" });
  expect([runsStarted(first, before), runsStarted(second, before)]).toEqual([1, 0]);

  await first.process.kill();
  await second.process.waitForLine('"msg":"registered"', { timeoutMs: 30_000 });
  const after = await sampleJob(backends, { variant: "working" });
  await deployment.publish(after);
  expect(await deployment.nextResult()).toMatchObject({
    job_id: after.job_id,
    status: "SUCCESS",
    attempt: 1,
  });
  expect(runsStarted(second, after)).toBe(1);
  await untilFree(orchestrator, second);
  await expectNothingLeft(deployment, orchestrator);
});

test("a worker refuses what is not its own to run, and what it has no slot for", async () => {
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator);
  const job = await sampleJob(backends);
  const held = holdPush(backends, job);
  holds.push(held);
  await deployment.publish(job);
  await untilState(orchestrator, job.job_id, "BUILDING");

  const stranger = { ...requestOf(job, worker, 1), incarnation: "another-start" };
  await expect(runJob(worker, stranger)).rejects.toMatchObject({ code: status.FAILED_PRECONDITION });
  const other = await sampleJob(backends, { variant: "working" });
  await expect(runJob(worker, requestOf(other, worker, 1))).rejects.toMatchObject({
    code: status.RESOURCE_EXHAUSTED,
  });
  held.release();
  expect(await deployment.nextResult()).toMatchObject({ job_id: job.job_id, status: "SUCCESS", attempt: 1 });
  await untilFree(orchestrator, worker);
  expect(runsStarted(worker, job)).toBe(1);
  await expectNothingLeft(deployment, orchestrator);

  // No orchestrator is left to hear of this one.
  const direct = await sampleJob(backends, { variant: "failing" });
  const answer = await runJob(worker, requestOf(direct, worker, 2));
  expect(await runJob(worker, requestOf(direct, worker, 2))).toEqual(answer);
  await expect(runJob(worker, requestOf(direct, worker, 1))).rejects.toMatchObject({
    code: status.FAILED_PRECONDITION,
  });
  expect(runsStarted(worker, direct)).toBe(1);
});

test("without Redis, only the orchestrator that holds the job's message confirms its lease", async () => {
  const orchestrators = await Promise.all([deployment.startOrchestrator(), deployment.startOrchestrator()]);
  const worker = await deployment.startWorker(anyOf(...orchestrators));
  const job = await sampleJob(backends);
  const held = holdPush(backends, job);
  holds.push(held);
  await deployment.publish(job);
  const [holder, other] = await whoHas(job, orchestrators, "job assigned");
  await held.arrived;
  await redis.kill();

  await expect(confirmLease(other, job, worker, 1)).rejects.toMatchObject({ code: status.UNAVAILABLE });
  await expect(confirmLease(holder, job, worker, 2)).rejects.toMatchObject({ code: status.UNAVAILABLE });
  expect(await confirmLease(holder, job, worker, 1)).toMatchObject({ granted: true });
  held.release();
  expect(await deployment.nextResult()).toMatchObject({ job_id: job.job_id, status: "SUCCESS", attempt: 1 });
  expect(backends.ecr.tagPuts(job.ecr_repo, job.deployment_version)).toHaveLength(1);

  await redis.start();
  await Promise.all(orchestrators.map(untilReady));
  await untilFree(holder, worker);
  await expectNothingLeft(deployment, ...orchestrators);
});
