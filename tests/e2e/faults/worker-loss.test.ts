/** Workers that crash or freeze while they build: the job is tried again elsewhere, and nothing of it stays behind. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Backends, startBackends } from "../../support/backends.ts";
import {
  type Deployment,
  shownWorkers,
  startDeployment,
  untilFree,
  untilState,
  type WorkerProcess,
} from "../../support/deployment.ts";
import { type DockerEngine, startDockerEngine } from "../../support/docker-engines.ts";
import {
  expectNothingLeft,
  holdPush,
  linesAbout,
  runsStarted,
  type SampleJob,
  sampleJob,
  whoHas,
} from "../../support/fault-site.ts";
import { commandLines } from "../../support/running-programs.ts";
import { waitFor } from "../../support/wait-for.ts";

setDefaultTimeout(120_000);

let backends: Backends;
let olderEngine: DockerEngine;
let deployment: Deployment;
/** Of the test that runs; one that fails may not have let go. */
const holds: { release(): void }[] = [];

beforeAll(async () => {
  [backends, olderEngine] = await Promise.all([
    startBackends({ engine: "26.1" }),
    startDockerEngine({ engine: "20.10" }),
  ]);
}, 240_000);

afterEach(async () => {
  for (const held of holds.splice(0)) held.release();
  await deployment?.stop();
}, 60_000);

afterAll(async () => {
  await Promise.all([olderEngine?.stop(), backends?.stop()]);
}, 60_000);

const tagPuts = ({ ecr_repo, deployment_version }: SampleJob) =>
  backends.ecr.tagPuts(ecr_repo, deployment_version);

/** Comes back when the worker that starts now has taken away what the crashed one had left. */
async function restart(
  crashed: WorkerProcess,
  orchestrator: { grpcAddress: string },
): Promise<WorkerProcess> {
  const worker = await deployment.startWorker(orchestrator, { BLACKTREE_WORK_DIR: crashed.workDir });
  await worker.process.waitForLine("removed what a worker that crashed had left");
  expect(await readdir(join(crashed.workDir, "runs"))).toEqual([worker.incarnation]);
  return { ...worker, workDir: crashed.workDir };
}

test("a worker is killed: it gets no more jobs, and its job succeeds on another one", async () => {
  deployment = await startDeployment(backends);
  const orchestrator = await deployment.startOrchestrator();
  const workers = await Promise.all([
    deployment.startWorker(orchestrator),
    deployment.startWorker(orchestrator),
  ]);
  const events = await deployment.watchEvents();
  const job = await sampleJob(backends);
  await deployment.publish(job);
  const [lost, other] = await whoHas(job, workers, "run started");
  await untilState(orchestrator, job.job_id, "BUILDING");
  await lost.process.kill();
  await waitFor(
    async () => (await shownWorkers(orchestrator)).find(({ id }) => id === lost.id)?.status === "LOST",
    { timeoutMs: 10_000, what: `${lost.id} to be lost` },
  );

  expect(await deployment.nextResult()).toMatchObject({
    job_id: job.job_id,
    status: "SUCCESS",
    attempt: 2,
    worker_id: other.id,
  });
  const retrying = events.filter(({ state }) => state === "RETRYING");
  expect(retrying).toMatchObject([
    { job_id: job.job_id, attempt: 1, worker_id: lost.id, error: { code: "WORKER_LOST", retryable: true } },
  ]);
  await untilFree(orchestrator, other);
  expect(tagPuts(job)).toHaveLength(1);
  await expectNothingLeft(deployment, orchestrator);
});

test("a worker crashes while it clones: the next one on its work folder ends git and removes the files", async () => {
  deployment = await startDeployment(backends);
  const orchestrator = await deployment.startOrchestrator();
  const crashed = await deployment.startWorker(orchestrator);
  const job = await sampleJob(backends, { variant: "working" });
  const gits = async () => (await commandLines()).filter((line) => line.includes(job.repo_url));
  const held = backends.git.hold();
  holds.push(held);
  await deployment.publish(job);
  await held.arrived;
  await crashed.process.kill();
  expect(await gits()).not.toEqual([]);

  const worker = await restart(crashed, orchestrator);
  expect(await gits()).toEqual([]);
  held.release();
  expect(await deployment.nextResult()).toMatchObject({
    job_id: job.job_id,
    status: "SUCCESS",
    attempt: 2,
    worker_id: worker.id,
  });
  await untilFree(orchestrator, worker);
  await expectNothingLeft(deployment, orchestrator);
});

test("a worker crashes while an older engine pushes: the next one also removes the attempt's image", async () => {
  deployment = await startDeployment({ ...backends, docker: olderEngine });
  const orchestrator = await deployment.startOrchestrator();
  const crashed = await deployment.startWorker(orchestrator);
  const attemptImages = async () => {
    const { stdout } = await olderEngine.docker(["images", "--format={{.Repository}}:{{.Tag}}"]);
    return stdout.split("\n").filter((name) => name.includes(":blacktree-"));
  };
  const job = await sampleJob(backends, { variant: "working" });
  const held = holdPush(backends, job);
  holds.push(held);
  await deployment.publish(job);
  await held.arrived;
  await crashed.process.kill();
  expect(await attemptImages()).toHaveLength(1);

  const worker = await restart(crashed, orchestrator);
  expect(await attemptImages()).toEqual([]);
  held.release();
  expect(await deployment.nextResult()).toMatchObject({
    job_id: job.job_id,
    status: "SUCCESS",
    attempt: 2,
    worker_id: worker.id,
  });
  await untilFree(orchestrator, worker);
  expect(tagPuts(job)).toHaveLength(1);
  expect(await attemptImages()).toEqual([]);
  await expectNothingLeft(deployment, orchestrator);
});

test("a worker freezes until another one has done its job: it gives the run up, and goes on with other jobs", async () => {
  deployment = await startDeployment(backends);
  const orchestrator = await deployment.startOrchestrator();
  const workers = await Promise.all([
    deployment.startWorker(orchestrator),
    deployment.startWorker(orchestrator),
  ]);
  const job = await sampleJob(backends);
  await deployment.publish(job);
  const [frozen, other] = await whoHas(job, workers, "run started");
  await untilState(orchestrator, job.job_id, "BUILDING");
  frozen.process.pause();
  expect(await deployment.nextResult()).toMatchObject({
    job_id: job.job_id,
    status: "SUCCESS",
    attempt: 2,
    worker_id: other.id,
  });

  frozen.process.resume();
  await frozen.process.waitForLine("forgotten; registering again");
  await untilFree(orchestrator, frozen);
  const ended = await waitFor(() => linesAbout(frozen, job, "run ended")[0], {
    timeoutMs: 15_000,
    what: "the end of the stale run",
  });
  expect(ended).not.toContain('"status":"SUCCESS"');
  expect(tagPuts(job)).toHaveLength(1);

  await other.process.stop();
  const next = await sampleJob(backends, { variant: "working" });
  await deployment.publish(next);
  expect(await deployment.nextResult()).toMatchObject({
    job_id: next.job_id,
    status: "SUCCESS",
    attempt: 1,
    worker_id: frozen.id,
  });
  await untilFree(orchestrator, frozen);
  expect(tagPuts(job)).toHaveLength(1);
  await expectNothingLeft(deployment, orchestrator);
});

test("a job that takes its worker down each time fails after its last attempt", async () => {
  deployment = await startDeployment(backends);
  const orchestrator = await deployment.startOrchestrator({ BLACKTREE_MAX_ATTEMPTS: "2" });
  const events = await deployment.watchEvents();
  const job = await sampleJob(backends);
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
    error: { code: "WORKER_LOST", retryable: true },
  });
  await waitFor(() => events.at(-1)?.state === "FAILED", { timeoutMs: 5000, what: "the last event" });
  expect(events.filter(({ state }) => state === "RETRYING")).toHaveLength(1);
  await untilFree(orchestrator, worker);
  expect(runsStarted(worker, job)).toBe(0);
  expect(tagPuts(job)).toEqual([]);
  await expectNothingLeft(deployment, orchestrator);
});
