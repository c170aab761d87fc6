/** RabbitMQ dies, freezes or takes a message back while a build runs: one run, one result, and other jobs go on. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Backends, startBackends } from "../../support/backends.ts";
import {
  type Deployment,
  type OrchestratorProcess,
  shownJob,
  startDeployment,
  untilFree,
  untilReady,
  untilState,
  type WorkerProcess,
} from "../../support/deployment.ts";
import {
  expectNothingLeft,
  holdPush,
  linesAbout,
  runsStarted,
  type SampleJob,
  sampleJob,
} from "../../support/fault-site.ts";
import type { HeldRequests } from "../../support/held-requests.ts";
import { waitFor } from "../../support/wait-for.ts";

setDefaultTimeout(120_000);

let backends: Backends;
let deployment: Deployment;
/** Of the test that runs; one that fails may not have let go. */
const holds: HeldRequests[] = [];

beforeAll(async () => {
  backends = await startBackends({ engine: "26.1" });
}, 240_000);

afterEach(async () => {
  for (const held of holds.splice(0)) held.release();
  backends.rabbitmq.resume();
  await deployment?.stop();
}, 60_000);

afterAll(() => backends?.stop(), 60_000);

interface Site {
  readonly job: SampleJob;
  readonly worker: WorkerProcess;
  readonly orchestrator: OrchestratorProcess;
}

async function startSite(workerEnv: Record<string, string> = {}): Promise<Site> {
  deployment = await startDeployment(backends);
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator, workerEnv);
  return { job: await build(orchestrator), worker, orchestrator };
}

/**
 * RabbitMQ writes the register of its quorum queues lazily: of one that is killed right after a declaration, the queue
 * comes back only after a minute.
 */
async function syncBroker(): Promise<void> {
  await backends.rabbitmq.rabbitmqctl(["eval", "[dets:sync(Table) || Table <- dets:all()]."]);
}

async function killBroker(): Promise<void> {
  await syncBroker();
  await backends.rabbitmq.kill();
}

async function build(orchestrator: OrchestratorProcess): Promise<SampleJob> {
  const job = await sampleJob(backends);
  await deployment.publish(job);
  await untilState(orchestrator, job.job_id, "BUILDING");
  return job;
}

function hold(job: SampleJob): HeldRequests {
  const held = holdPush(backends, job);
  holds.push(held);
  return held;
}

async function expectOneResult({ job, worker, orchestrator }: Site): Promise<void> {
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

test("RabbitMQ is killed and started again while a job builds", async () => {
  const site = await startSite();
  const held = hold(site.job);
  await killBroker();
  await backends.rabbitmq.start();
  await untilReady(site.orchestrator);
  await deployment.reconnect();
  await site.orchestrator.process.waitForLine("attaching to a running job", { timeoutMs: 30_000 });
  held.release();
  await expectOneResult(site);
});

test("a build ends while RabbitMQ is away: its result is kept, and published when that is back", async () => {
  const site = await startSite();
  const held = hold(site.job);
  await killBroker();
  held.release();
  await site.worker.process.waitForLine("run ended", { timeoutMs: 30_000 });
  await backends.rabbitmq.start();
  await untilReady(site.orchestrator);
  await deployment.reconnect();
  await expectOneResult(site);
});

test("RabbitMQ freezes while a build ends", async () => {
  const site = await startSite();
  backends.rabbitmq.pause();
  await site.worker.process.waitForLine("run ended", { timeoutMs: 30_000 });
  backends.rabbitmq.resume();
  await expectOneResult(site);
});

test("RabbitMQ freezes while a build ends, and dies: the result is published, and the run's slot is free again", async () => {
  const site = await startSite();
  await syncBroker();
  backends.rabbitmq.pause();
  await site.worker.process.waitForLine("run ended", { timeoutMs: 30_000 });
  const isRecorded = async () => (await shownJob(site.orchestrator, site.job.job_id))?.result;
  await waitFor(isRecorded, { timeoutMs: 10_000, what: "the result to be recorded" });
  await backends.rabbitmq.kill();
  await backends.rabbitmq.start();
  await untilReady(site.orchestrator);
  await deployment.reconnect();
  await expectOneResult(site);
});

test("all connections are closed while a job builds", async () => {
  const site = await startSite();
  const held = hold(site.job);
  await backends.rabbitmq.rabbitmqctl(["close_all_connections", "--vhost", deployment.vhost, "a test"]);
  await deployment.reconnect();
  await site.orchestrator.process.waitForLine("attaching to a running job", { timeoutMs: 30_000 });
  held.release();
  await expectOneResult(site);
});

test("a build outlasts the broker's patience with unacked messages: it runs once, and disturbs no other", async () => {
  const { rabbitmq } = backends;
  // Read when a channel opens; the check itself runs with the channel's tick.
  await rabbitmq.rabbitmqctl(["eval", "application:set_env(rabbit, consumer_timeout, 2000)."]);
  await rabbitmq.rabbitmqctl(["eval", "application:set_env(rabbit, channel_tick_interval, 500)."]);
  try {
    const site = await startSite({ BLACKTREE_WORKER_SLOTS: "2" });
    const { job, worker, orchestrator } = site;
    const held = hold(job);
    await waitFor(() => linesAbout(orchestrator, job, "attaching to a running job").length >= 2, {
      timeoutMs: 30_000,
      what: "two take-overs",
    });
    const quick = await sampleJob(backends, { variant: "working" });
    await deployment.publish(quick);
    expect(await deployment.nextResult()).toMatchObject({
      job_id: quick.job_id,
      status: "SUCCESS",
      attempt: 1,
    });
    expect(runsStarted(worker, quick)).toBe(1);
    held.release();
    await expectOneResult(site);
  } finally {
    await rabbitmq.rabbitmqctl(["eval", "application:set_env(rabbit, consumer_timeout, 1800000)."]);
    await rabbitmq.rabbitmqctl(["eval", "application:set_env(rabbit, channel_tick_interval, 60000)."]);
  }
});
