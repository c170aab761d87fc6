/** Redis stops, freezes or loses its data while a build runs: the build still has one result, without an operator. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { apiRequest } from "../../support/blacktree/admin-api.ts";
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
  runsStarted,
  type SampleJob,
  sampleJob,
  tagPuts,
} from "../../support/blacktree/fault-site.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import type { HeldRequests } from "../../support/machine/held-requests.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { startRedisWithSentinel } from "../../support/servers/redis-sentinel.ts";

const site = faultSite();
let redis: Redis;

beforeEach(async () => {
  redis = await startRedis();
});

afterEach(() => redis.stop());

interface Scene {
  readonly job: SampleJob;
  /** Holds the job's build before its push. */
  readonly held: HeldRequests;
  readonly worker: WorkerProcess;
  readonly idle: WorkerProcess;
  readonly orchestrators: readonly [OrchestratorProcess, OrchestratorProcess];
}

/** A running build, with an orchestrator and a worker that would take it over in case of a bug. */
async function startScene(env: Record<string, string> = {}): Promise<Scene> {
  const deployment = await site.deploy({ redis });
  const settings = { ...SHORT_LEASE, ...env };
  const orchestrators = await Promise.all([
    deployment.startOrchestrator(settings),
    deployment.startOrchestrator(settings),
  ]);
  const workers = await Promise.all([
    deployment.startWorker(anyOf(...orchestrators)),
    deployment.startWorker(anyOf(...orchestrators)),
  ]);
  const job = await sampleJob(site.backends, { variant: "working" });
  const held = site.keep(holdPush(site.backends, job));
  await deployment.publish(job);
  const [worker, idle] = await holderOf(job, workers, "run started");
  await untilState(orchestrators[0], job.job_id, "BUILDING");
  return { job, held, worker, idle, orchestrators };
}

async function expectOneResult({ job, worker, idle }: Scene): Promise<void> {
  await expectSuccess(site, job, { worker });
  expect([runsStarted(worker, job), runsStarted(idle, job)]).toEqual([1, 0]);
  expect(tagPuts(site, job)).toHaveLength(1);
}

async function expectNextJobRuns({ orchestrators, worker, idle }: Scene): Promise<void> {
  await Promise.all(orchestrators.map(untilReady));
  const job = await sampleJob(site.backends, { variant: "working" });
  await site.deployment.publish(job);
  await expectSuccess(site, job);
  for (const each of [worker, idle]) await untilFree(orchestrators[0], each);
  await expectNothingLeft(site.deployment, ...orchestrators);
}

/** A repeated message gets the stored result, and the job can no longer be cancelled. */
async function expectKnownEnd({ job, worker, idle, orchestrators }: Scene): Promise<void> {
  const recorded = ({ process }: OrchestratorProcess) =>
    process.waitForLine("result recorded after its publication");
  await Promise.any(orchestrators.map(recorded));
  await Promise.all(orchestrators.map(untilReady));
  await site.deployment.publish(job);
  await expectSuccess(site, job, { worker });
  expect([runsStarted(worker, job), runsStarted(idle, job)]).toEqual([1, 0]);
  const [{ apiUrl }] = orchestrators;
  const cancel = await apiRequest(apiUrl, `/api/v1/jobs/${job.job_id}/cancel`, {
    method: "POST",
    headers: { "content-type": "application/json" },
  });
  expect(cancel.status).toBe(409);
}

test("Redis faults: Redis is killed, and restarts empty only after the build", async () => {
  const scene = await startScene();
  await redis.kill();
  scene.held.release();
  await expectOneResult(scene);
  await redis.start();
  await expectNextJobRuns(scene);
});

inFullCheck().test(
  "Redis faults: Redis is killed, and restarts empty before the build has ended",
  async () => {
    const scene = await startScene();
    await redis.kill();
    await redis.start();
    await scene.held.arrived;
    await untilFree(scene.orchestrators[0], scene.idle);
    scene.held.release();
    await expectOneResult(scene);
    await expectNextJobRuns(scene);
  },
);

test("Redis faults: Redis freezes for longer than a lease", async () => {
  const scene = await startScene();
  site.keep({ release: () => redis.resume() });
  redis.pause();
  await scene.worker.process.waitForLine("no ping for a lease time");
  scene.held.release();
  await expectOneResult(scene);
  redis.resume();
  await expectKnownEnd(scene);
  await expectNextJobRuns(scene);
});

inFullCheck().test("Redis faults: Redis loses all its data", async () => {
  const scene = await startScene();
  await redis.cli("FLUSHALL");
  scene.held.release();
  await expectOneResult(scene);
  await expectNextJobRuns(scene);
});

inFullCheck().test(
  "Redis faults: FLUSHALL with four running jobs: each ends at its first attempt, in one result",
  async () => {
    const deployment = await site.deploy({ redis });
    const orchestrators = await Promise.all([
      deployment.startOrchestrator(SHORT_LEASE),
      deployment.startOrchestrator(SHORT_LEASE),
    ]);
    const slots = { BLACKTREE_WORKER_SLOTS: "2" };
    const workers = await Promise.all([
      deployment.startWorker(anyOf(...orchestrators), slots),
      deployment.startWorker(anyOf(...orchestrators), slots),
    ]);
    const runs = (job: SampleJob) => workers.reduce((sum, worker) => sum + runsStarted(worker, job), 0);
    const jobs = await Promise.all([1, 2, 3, 4].map(() => sampleJob(site.backends, { variant: "working" })));
    const held = jobs.map((job) => site.keep(holdPush(site.backends, job)));
    for (const job of jobs) await deployment.publish(job);
    for (const job of jobs) await untilState(orchestrators[0], job.job_id, "BUILDING");
    await redis.cli("FLUSHALL");
    for (const each of held) each.release();

    const results = [];
    for (const _ of jobs) results.push(await deployment.nextResult());
    expect(results.map(({ job_id }) => job_id).sort()).toEqual(jobs.map(({ job_id }) => job_id).sort());
    for (const result of results) expect(result).toMatchObject({ status: "SUCCESS", attempt: 1 });
    expect(jobs.map(runs)).toEqual([1, 1, 1, 1]);
    expect(jobs.map((job) => tagPuts(site, job).length)).toEqual([1, 1, 1, 1]);

    const next = await sampleJob(site.backends, { variant: "working" });
    await deployment.publish(next);
    await expectSuccess(site, next);
    for (const worker of workers) await untilFree(orchestrators[0], worker);
    await expectNothingLeft(deployment, ...orchestrators);
  },
);

test("Redis faults: Redis loses all its data, and the broker revokes the job's delivery: the run is found again", async () => {
  const scene = await startScene();
  const { job, held, orchestrators } = scene;
  const [holder, other] = await holderOf(job, orchestrators, "job assigned");
  await redis.cli("FLUSHALL");
  await holder.process.kill();
  await other.process.waitForLine("attaching to a running job", { timeoutMs: 30_000 });
  held.release();
  await expectOneResult(scene);
  await expectNextJobRuns({
    ...scene,
    orchestrators: [other, await site.deployment.startOrchestrator(SHORT_LEASE)],
  });
});

test("Redis faults: the primary dies in the middle of a build, and Sentinel promotes its replica", async () => {
  const watched = await startRedisWithSentinel();
  try {
    const scene = await startScene({ REDIS_URL: watched.url });
    await watched.primary.kill();
    await watched.promote();
    await scene.held.arrived;
    scene.held.release();
    await expectOneResult(scene);
    await expectNextJobRuns(scene);
  } finally {
    await watched.stop();
  }
});
