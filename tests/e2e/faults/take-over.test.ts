/** Orchestrators that end while a build runs: the build goes on, and its one result comes from whoever is there. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Backends, startBackends } from "../../support/backends.ts";
import {
  type Deployment,
  type OrchestratorProcess,
  startDeployment,
  untilFree,
  untilState,
  type WorkerProcess,
} from "../../support/deployment.ts";
import {
  anyOf,
  expectNothingLeft,
  type Held,
  holdPush,
  runsStarted,
  type SampleJob,
  sampleJob,
  whoHas,
} from "../../support/fault-site.ts";
import { freePort } from "../../support/free-port.ts";

setDefaultTimeout(90_000);

let backends: Backends;
let deployment: Deployment;
/** Of the test that runs; one that fails may not have let go. */
const holds: Held[] = [];

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
  /** The one that runs the job, and the one that does not. */
  readonly holder: OrchestratorProcess;
  readonly other: OrchestratorProcess;
}

/** Two orchestrators, one worker, and a build under way. */
async function startSite(): Promise<Site> {
  deployment = await startDeployment(backends);
  const both = await Promise.all([deployment.startOrchestrator(), deployment.startOrchestrator()]);
  const worker = await deployment.startWorker(anyOf(...both));
  const job = await sampleJob(backends);
  await deployment.publish(job);
  const [holder, other] = await whoHas(job, both, "job assigned");
  await untilState(holder, job.job_id, "BUILDING");
  return { job, worker, holder, other };
}

async function expectOneResult(
  job: SampleJob,
  worker: WorkerProcess,
  orchestrator: OrchestratorProcess,
): Promise<void> {
  expect(await deployment.nextResult()).toMatchObject({
    job_id: job.job_id,
    status: "SUCCESS",
    attempt: 1,
    worker_id: worker.id,
  });
  await untilFree(orchestrator, worker);
  expect(runsStarted(worker, job)).toBe(1);
  expect(backends.ecr.tagPuts(job.ecr_repo, job.deployment_version)).toHaveLength(1);
  await expectNothingLeft(deployment, orchestrator);
}

test("an orchestrator is killed: another one takes the running build over", async () => {
  const { job, worker, holder, other } = await startSite();
  await holder.process.kill();
  await other.process.waitForLine("attaching to a running job");
  await expectOneResult(job, worker, other);
});

test("an orchestrator is told to stop: it ends at once, and another one takes the running build over", async () => {
  const { job, worker, holder, other } = await startSite();
  const toldAt = performance.now();
  holder.process.signal("SIGTERM");
  expect(await holder.process.exited).toBe(0);
  expect(performance.now() - toldAt).toBeLessThan(5000);
  await other.process.waitForLine("attaching to a running job");
  await expectOneResult(job, worker, other);
});

test("a frozen orchestrator's builds are taken over once the broker misses it, and it does no harm when it goes on", async () => {
  const { job, worker, holder, other } = await startSite();
  holder.process.pause();
  // As the broker does when heartbeats fail, but without the wait for them.
  const closeAll = ["close_all_connections", "--vhost", deployment.vhost, "missed heartbeats"];
  await backends.rabbitmq.rabbitmqctl(closeAll);
  await deployment.reconnect();
  await other.process.waitForLine("attaching to a running job");
  holder.process.resume();
  await expectOneResult(job, worker, other);
  await expectNothingLeft(deployment, holder);
});

test("the only orchestrator is away for longer than a lease: the next one finds the running build, however late", async () => {
  deployment = await startDeployment(backends);
  const listen = { BLACKTREE_GRPC_LISTEN: `127.0.0.1:${await freePort()}` };
  const before = await deployment.startOrchestrator(listen);
  const workers = await Promise.all([deployment.startWorker(before), deployment.startWorker(before)]);
  const job = await sampleJob(backends);
  const held = holdPush(backends, job);
  holds.push(held);
  await deployment.publish(job);
  const [worker, idle] = await whoHas(job, workers, "run started");
  await untilState(before, job.job_id, "BUILDING");
  await before.process.kill();
  for (const { process } of workers)
    await process.waitForLine("no orchestrator answers", { timeoutMs: 30_000 });

  // The free worker is there first.
  worker.process.pause();
  const after = await deployment.startOrchestrator(listen);
  await untilFree(after, idle);
  worker.process.resume();
  await after.process.waitForLine("attaching to a running job", { timeoutMs: 30_000 });
  held.release();
  await expectOneResult(job, worker, after);
  expect(runsStarted(idle, job)).toBe(0);
});
