/** Redis goes away, freezes or forgets while a build runs: the build has one result all the same, and nobody has to help. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
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
import { type Redis, startRedis } from "../../support/redis.ts";

setDefaultTimeout(90_000);

let backends: Backends;
let redis: Redis;
let deployment: Deployment;

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1" });
}, 240_000);

beforeEach(async () => {
  redis = await startRedis();
}, 30_000);

afterEach(async () => {
  redis.resume();
  await deployment?.stop();
  await redis.stop();
}, 60_000);

afterAll(() => backends?.stop(), 60_000);

interface Site {
  readonly job: SampleJob;
  readonly worker: WorkerProcess;
  readonly idle: WorkerProcess;
  readonly orchestrators: readonly [OrchestratorProcess, OrchestratorProcess];
}

/** A build under way, with an orchestrator and a worker that could take it over if they were wrong. */
async function startSite(): Promise<Site> {
  deployment = await startDeployment({ ...backends, redis });
  const orchestrators = await Promise.all([deployment.startOrchestrator(), deployment.startOrchestrator()]);
  const workers = await Promise.all([
    deployment.startWorker(anyOf(...orchestrators)),
    deployment.startWorker(anyOf(...orchestrators)),
  ]);
  const job = await sampleJob(backends);
  await deployment.publish(job);
  const [worker, idle] = await whoHas(job, workers, "run started");
  await untilState(orchestrators[0], job.job_id, "BUILDING");
  return { job, worker, idle, orchestrators };
}

async function expectOneResult({ job, worker, idle }: Site): Promise<void> {
  expect(await deployment.nextResult()).toMatchObject({
    job_id: job.job_id,
    status: "SUCCESS",
    attempt: 1,
    worker_id: worker.id,
  });
  expect([runsStarted(worker, job), runsStarted(idle, job)]).toEqual([1, 0]);
  expect(backends.ecr.tagPuts(job.ecr_repo, job.deployment_version)).toHaveLength(1);
}

async function expectNextJobRuns({ orchestrators, worker, idle }: Site): Promise<void> {
  await Promise.all(orchestrators.map(untilReady));
  const job = await sampleJob(backends, { variant: "working" });
  await deployment.publish(job);
  expect(await deployment.nextResult()).toMatchObject({ job_id: job.job_id, status: "SUCCESS", attempt: 1 });
  for (const each of [worker, idle]) await untilFree(orchestrators[0], each);
  await expectNothingLeft(deployment, ...orchestrators);
}

test("Redis is killed, and comes back empty only after the build", async () => {
  const site = await startSite();
  await redis.kill();
  await expectOneResult(site);
  await redis.start();
  await expectNextJobRuns(site);
});

test("Redis is killed, and comes back empty before the build has ended", async () => {
  const site = await startSite();
  const { job } = site;
  const held = holdPush(backends, job);
  await redis.kill();
  await redis.start();
  await held.arrived;
  await untilFree(site.orchestrators[0], site.idle);
  held.release();
  await expectOneResult(site);
  await expectNextJobRuns(site);
});

test("Redis freezes for longer than a lease", async () => {
  const site = await startSite();
  redis.pause();
  await expectOneResult(site);
  redis.resume();
  await expectNextJobRuns(site);
});

test("Redis forgets everything", async () => {
  const site = await startSite();
  await redis.cli("FLUSHALL");
  await expectOneResult(site);
  await expectNextJobRuns(site);
});

test("Redis forgets everything, and the broker takes the job's message back: the run is found again", async () => {
  const site = await startSite();
  const { job, orchestrators } = site;
  const held = holdPush(backends, job);
  const [holder, other] = await whoHas(job, orchestrators, "job assigned");
  await redis.cli("FLUSHALL");
  await holder.process.kill();
  await other.process.waitForLine("attaching to a running job", { timeoutMs: 30_000 });
  held.release();
  await expectOneResult(site);
  await expectNextJobRuns({ ...site, orchestrators: [other, await deployment.startOrchestrator()] });
});
