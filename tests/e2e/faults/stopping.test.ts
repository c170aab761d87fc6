/** Workers that are told to stop while they build. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Backends, startBackends } from "../../support/backends.ts";
import {
  type Deployment,
  type OrchestratorProcess,
  shownWorkers,
  startDeployment,
  untilFree,
  untilState,
  type WorkerProcess,
} from "../../support/deployment.ts";
import {
  expectNothingLeft,
  holdPush,
  runsStarted,
  type SampleJob,
  sampleJob,
} from "../../support/fault-site.ts";
import { childrenOf, commandLines } from "../../support/running-programs.ts";
import { waitFor } from "../../support/wait-for.ts";

setDefaultTimeout(120_000);

let backends: Backends;
let deployment: Deployment;
/** Of the test that runs; one that fails may not have let go. */
const holds: { release(): void }[] = [];

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1" });
}, 240_000);

afterEach(async () => {
  for (const held of holds.splice(0)) held.release();
  await deployment?.stop();
}, 60_000);

afterAll(() => backends?.stop(), 60_000);

interface Site {
  readonly job: SampleJob;
  readonly worker: WorkerProcess;
  readonly orchestrator: OrchestratorProcess;
}

/** One worker, whose build has everything but its tag. */
async function startSite(workerEnv: Record<string, string> = {}): Promise<Site> {
  deployment = await startDeployment(backends);
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator, workerEnv);
  const job = await sampleJob(backends);
  await deployment.publish(job);
  await untilState(orchestrator, job.job_id, "BUILDING");
  return { job, worker, orchestrator };
}

async function untilShown(
  orchestrator: OrchestratorProcess,
  worker: WorkerProcess,
  expected: readonly (string | undefined)[],
): Promise<void> {
  const status = async () => (await shownWorkers(orchestrator)).find(({ id }) => id === worker.id)?.status;
  await waitFor(async () => expected.includes(await status()), {
    timeoutMs: 10_000,
    what: `${worker.id} to be ${expected.join(" or ")}`,
  });
}

/** Neither a folder nor a program of any run. */
async function expectNothingBehind({ worker, job }: Site): Promise<void> {
  expect(await readdir(join(worker.workDir, "runs"))).toEqual([]);
  expect(existsSync(`/proc/${worker.process.pid}`)).toBe(false);
  expect((await commandLines()).filter((line) => line.includes(job.deployment_version))).toEqual([]);
  expect((await commandLines()).filter((line) => line.includes(worker.workDir))).toEqual([]);
}

test("a worker told to stop finishes its build, takes nothing new meanwhile, and leaves", async () => {
  const site = await startSite();
  const { job, worker, orchestrator } = site;
  const held = holdPush(backends, job);
  holds.push(held);
  worker.process.signal("SIGTERM");
  await untilShown(orchestrator, worker, ["DRAINING"]);

  const second = await sampleJob(backends, { variant: "working" });
  await deployment.publish(second);
  await held.arrived;
  const other = await deployment.startWorker(orchestrator);
  expect(await deployment.nextResult()).toMatchObject({
    job_id: second.job_id,
    status: "SUCCESS",
    attempt: 1,
    worker_id: other.id,
  });
  await untilShown(orchestrator, worker, ["DRAINING"]);

  held.release();
  expect(await deployment.nextResult()).toMatchObject({
    job_id: job.job_id,
    status: "SUCCESS",
    attempt: 1,
    worker_id: worker.id,
  });
  expect(await worker.process.exited).toBe(0);
  await untilShown(orchestrator, worker, [undefined, "LOST"]);
  expect(runsStarted(worker, second)).toBe(0);
  await expectNothingBehind(site);
  await untilFree(orchestrator, other);
  await expectNothingLeft(deployment, orchestrator);
});

/** The worker ends its run, and the job goes to another one. */
async function expectHandedOver({ job, worker, orchestrator }: Site): Promise<void> {
  const other = await deployment.startWorker(orchestrator);
  expect(await deployment.nextResult()).toMatchObject({
    job_id: job.job_id,
    status: "SUCCESS",
    attempt: 2,
    worker_id: other.id,
  });
  await untilShown(orchestrator, worker, [undefined, "LOST"]);
  await untilFree(orchestrator, other);
  expect(backends.ecr.tagPuts(job.ecr_repo, job.deployment_version)).toHaveLength(1);
  await expectNothingLeft(deployment, orchestrator);
}

test("told a second time, it ends its build, and another worker gets the job", async () => {
  const site = await startSite();
  const { worker, orchestrator } = site;
  expect(await childrenOf(worker.process.pid)).not.toEqual([]);
  worker.process.signal("SIGTERM");
  await untilShown(orchestrator, worker, ["DRAINING"]);
  worker.process.signal("SIGTERM");
  expect(await worker.process.exited).toBe(0);
  await expectNothingBehind(site);
  await expectHandedOver(site);
});

test("a build that outlasts the drain timeout is ended, and another worker gets the job", async () => {
  const site = await startSite({ BLACKTREE_DRAIN_TIMEOUT: "300ms" });
  site.worker.process.signal("SIGTERM");
  expect(await site.worker.process.exited).toBe(0);
  await expectNothingBehind(site);
  await expectHandedOver(site);
});
