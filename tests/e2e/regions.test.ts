/** The placement and order of jobs: regions, priorities, and several orchestrators that share the work. */

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import type { JobResult } from "../../src/shared/job.ts";
import { apiRequest } from "../support/blacktree/admin-api.ts";
import {
  type Deployment,
  type OrchestratorProcess,
  shownJob,
  shownWorkers,
  startDeployment,
  untilFree,
  untilState,
  type WorkerProcess,
} from "../support/blacktree/deployment.ts";
import { inFullCheck } from "../support/machine/full-check.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { type Backends, startBackends } from "../support/servers/backends.ts";

let backends: Backends;
let deployment: Deployment;
let held: { release(): void } | undefined;

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1" });
  backends.aws.addRepository("1234567890", "app-images");
  await backends.git.createRepository("owner/working", await sampleRepository());
});

beforeEach(async () => {
  deployment = await startDeployment(backends);
});

afterEach(async () => {
  releaseJobs();
  await deployment?.stop();
});

afterAll(() => backends?.stop());

/** From now on every job is held at its request to git, until `releaseJobs`. */
function holdJobs(): void {
  held = backends.git.hold();
}

function releaseJobs(): void {
  held?.release();
  held = undefined;
}

/** A job that ends after its request to git. */
function jobMessage(job_id: string, changes: object = {}): object {
  const job = { repo_url: "owner/nowhere", branch: "main", deployment_version: "v1", ecr_repo: "app-images" };
  return { ...job, aws_account: "1234567890", job_id, ...changes };
}

async function publish(job_id: string, changes: object = {}): Promise<void> {
  await deployment.publish(jobMessage(job_id, changes));
}

function post({ apiUrl }: OrchestratorProcess, path: string, body: object): Promise<Response> {
  const headers = { "content-type": "application/json" };
  return apiRequest(apiUrl, `/api/v1/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
}

/** In all of these queues together. */
function untilDepth(queues: readonly string[], depth: number): Promise<unknown> {
  const isReached = async () => {
    const depths = await Promise.all(queues.map((queue) => deployment.depth(queue)));
    return depths.reduce((sum, each) => sum + each, 0) === depth;
  };
  return waitFor(isReached, { timeoutMs: 30_000, what: `${depth} messages in ${queues.join(" and ")}` });
}

const PARKED = ["jobs.ready.unknown-region", "jobs.ready.unknown-region.checked"];

const startWorker = (orchestrator: OrchestratorProcess, region: string) =>
  deployment.startWorker(orchestrator, { BLACKTREE_WORKER_REGION: region });

/** A worker that has registered gets no job before it has answered a ping. */
function untilAssignable(orchestrator: OrchestratorProcess, region: string): Promise<unknown> {
  const isAssignable = async () => {
    const response = await apiRequest(orchestrator.apiUrl, "/api/v1/regions");
    const { items } = (await response.json()) as { items: { region: string; slots: { free: number } }[] };
    return items.some((each) => each.region === region && each.slots.free > 0);
  };
  return waitFor(isAssignable, { timeoutMs: 30_000, what: `a free slot in ${region}` });
}

async function nextResults(count: number): Promise<JobResult[]> {
  const results: JobResult[] = [];
  while (results.length < count) results.push(await deployment.nextResult());
  return results;
}

async function untilQueued(orchestrator: OrchestratorProcess, jobId: string): Promise<void> {
  await orchestrator.process.waitForLine(new RegExp(`"${jobId}".*"msg":"job queued"`));
}

test("regions: a job that requires its region waits for it, and later jobs without that requirement go elsewhere", async () => {
  const orchestrator = await deployment.startOrchestrator({ BLACKTREE_REGION_FALLBACK: "eu-west-1" });
  const european = await startWorker(orchestrator, "eu-west-1");
  const insisting = ["insists-1", "insists-2", "insists-3"];
  for (const id of insisting) {
    await publish(id, { worker_region: "ap-south-1", region_policy: "require" });
    await untilQueued(orchestrator, id);
  }
  await publish("prefers", { worker_region: "ap-south-1", region_policy: "prefer" });
  expect(await deployment.nextResult()).toMatchObject({ job_id: "prefers", worker_id: european.id });
  for (const id of insisting) expect((await shownJob(orchestrator, id))?.state).toBe("QUEUED");

  const asian = await startWorker(orchestrator, "ap-south-1");
  const results = await nextResults(3);
  expect(results.map(({ job_id }) => job_id)).toEqual(insisting);
  expect(results.map(({ worker_id }) => worker_id)).toEqual(insisting.map(() => asian.id));
});

test("regions: a job goes to its own region first, and to the next one when that is full", async () => {
  const orchestrator = await deployment.startOrchestrator({ BLACKTREE_REGION_FALLBACK: "eu-west-1" });
  const european = await startWorker(orchestrator, "eu-west-1");
  const american = await startWorker(orchestrator, "us-east-1");
  for (const region of ["eu-west-1", "us-east-1"]) await untilAssignable(orchestrator, region);
  holdJobs();
  for (const id of ["first", "second"]) {
    await publish(id);
    await untilState(orchestrator, id, "CLONING");
  }
  await publish("third");
  await untilQueued(orchestrator, "third");
  expect((await shownJob(orchestrator, "third"))?.state).toBe("QUEUED");
  releaseJobs();
  const results = await nextResults(3);
  const workerOf = (id: string) => results.find(({ job_id }) => job_id === id)?.worker_id;
  expect([workerOf("first"), workerOf("second")]).toEqual([american.id, european.id]);
});

test("regions: without a fallback a region uses only its own workers, and its waiting jobs delay no others", async () => {
  const orchestrator = await deployment.startOrchestrator();
  const american = await startWorker(orchestrator, "us-east-1");
  for (const id of ["far-1", "far-2", "far-3"]) {
    await publish(id, { worker_region: "ap-south-1", priority: "high" });
    await untilQueued(orchestrator, id);
  }
  for (const id of ["near-1", "near-2"]) {
    await publish(id, { priority: "low" });
    expect(await deployment.nextResult()).toMatchObject({ job_id: id, worker_id: american.id });
  }
  await untilDepth(PARKED, 3);
  expect((await shownJob(orchestrator, "far-1"))?.state).toBe("QUEUED");
});

test("regions: jobs for an unknown region wait, can be cancelled, and run once a worker of their region starts", async () => {
  const orchestrator = await deployment.startOrchestrator();
  await startWorker(orchestrator, "us-east-1");
  for (const id of ["asia-1", "asia-2", "asia-3"]) {
    await publish(id, { worker_region: "ap-south-1", repo_url: "owner/working", deployment_version: id });
    await untilQueued(orchestrator, id);
  }
  await publish("europe-1", { worker_region: "eu-west-1" });
  await untilQueued(orchestrator, "europe-1");
  await untilDepth(PARKED, 4);
  expect((await shownJob(orchestrator, "asia-1"))?.state).toBe("QUEUED");
  expect((await post(orchestrator, "jobs/asia-2/cancel", {})).status).toBe(202);
  expect(await deployment.nextResult()).toMatchObject({ job_id: "asia-2", status: "CANCELLED", attempt: 0 });

  const asian = await startWorker(orchestrator, "ap-south-1");
  for (const job_id of ["asia-1", "asia-3"])
    expect(await deployment.nextResult()).toMatchObject({ job_id, status: "SUCCESS", worker_id: asian.id });
  expect(runsOf([asian], "asia-2")).toBe(0);
  expect((await shownJob(orchestrator, "europe-1"))?.state).toBe("QUEUED");
  await untilDepth(PARKED, 1);
  await untilDepth(["jobs.ready.ap-south-1.normal"], 0);
});

test("regions: with BLACKTREE_UNKNOWN_REGION=refuse a job for an unknown region is invalid", async () => {
  const orchestrator = await deployment.startOrchestrator({
    BLACKTREE_UNKNOWN_REGION: "refuse",
    BLACKTREE_REGIONS: "eu-west-1,eu-west-2",
    BLACKTREE_REGION_FALLBACK: "us-west-2",
  });
  await publish("refused", { worker_region: "ap-south-1" });
  const letter = await deployment.next("jobs.build.dead");
  const reason =
    "worker_region: not a known worker region; expected one of eu-west-1, eu-west-2, us-east-1, us-west-2; start a worker in the region or add it to BLACKTREE_REGIONS";
  expect(letter.properties.headers?.["x-blacktree-reason"]).toBe(reason);
  expect(await deployment.nextResult()).toMatchObject({
    job_id: "refused",
    status: "FAILED",
    attempt: 0,
    error: { code: "INVALID_JOB", message: reason },
    aws_account: "1234567890",
  });
  const response = await post(orchestrator, "jobs", jobMessage("refused", { worker_region: "ap-south-1" }));
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ title: "Bad job", errors: [reason] });

  await startWorker(orchestrator, "ap-south-1");
  await publish("accepted", { worker_region: "ap-south-1" });
  expect(await deployment.nextResult()).toMatchObject({
    job_id: "accepted",
    error: { code: "REPO_NOT_FOUND" },
  });
});

test("regions: waiting jobs start in order of priority: high, normal, low", async () => {
  const orchestrator = await deployment.startOrchestrator();
  const worker = await startWorker(orchestrator, "us-east-1");
  holdJobs();
  await publish("in-front");
  await untilState(orchestrator, "in-front", "CLONING");
  const waiting = {
    "low-1": "low",
    "normal-1": undefined,
    "high-1": "high",
    "low-2": "low",
    "high-2": "high",
  };
  for (const [id, priority] of Object.entries(waiting)) {
    await publish(id, { priority });
    await untilQueued(orchestrator, id);
  }
  releaseJobs();
  const results = await nextResults(6);
  expect(results.map(({ job_id }) => job_id)).toEqual([
    "in-front",
    ...["high-1", "high-2", "normal-1", "low-1", "low-2"],
  ]);
  await untilFree(orchestrator, worker);
});

inFullCheck().test(
  "regions: two orchestrators and three workers share the jobs: each has one run and one result",
  async () => {
    const orchestrators = await Promise.all([deployment.startOrchestrator(), deployment.startOrchestrator()]);
    const grpcAddress = orchestrators.map((orchestrator) => orchestrator.grpcAddress).join(",");
    const workers = await Promise.all([1, 2, 3].map(() => deployment.startWorker({ grpcAddress })));
    const ids = Array.from({ length: 12 }, (_, index) => `shared-${index}`);
    await Promise.all(ids.map((id) => publish(id)));
    const results = await nextResults(ids.length);
    expect(results.map(({ job_id }) => job_id).toSorted()).toEqual(ids.toSorted());
    expect(results.map(({ attempt }) => attempt)).toEqual(ids.map(() => 1));

    for (const orchestrator of orchestrators) {
      for (const worker of workers) await untilFree(orchestrator, worker);
      const known = (await shownWorkers(orchestrator)).map(({ id }) => id);
      expect(known.toSorted()).toEqual(workers.map(({ id }) => id).toSorted());
    }
    for (const queue of ["jobs.build", "jobs.ready.us-east-1.normal", "jobs.results", "jobs.build.dead"])
      expect({ queue, depth: await deployment.depth(queue) }).toEqual({ queue, depth: 0 });
    for (const id of ids) expect({ id, runs: runsOf(workers, id) }).toEqual({ id, runs: 1 });
  },
);

function runsOf(workers: readonly WorkerProcess[], jobId: string): number {
  const lines = workers.flatMap(({ process }) => process.lines);
  return lines.filter((line) => line.includes('"msg":"run started"') && line.includes(`"${jobId}"`)).length;
}
