/** RabbitMQ dies, freezes or revokes a delivery while a build runs: one run, one result, and other jobs continue. */
import { expect, test } from "bun:test";
import {
  type OrchestratorProcess,
  shownJob,
  untilFree,
  untilReady,
  untilState,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import {
  expectNothingLeft,
  expectSuccess,
  faultSite,
  holdPush,
  linesAbout,
  runsStarted,
  type SampleJob,
  sampleJob,
  tagPuts,
} from "../../support/blacktree/fault-site.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const site = faultSite({ ownRabbitMq: {} });

interface Scene {
  readonly job: SampleJob;
  /** Lets the job's build continue. */
  release(): void;
  readonly worker: WorkerProcess;
  readonly orchestrator: OrchestratorProcess;
}

/** A running build, which is held before its push. */
async function startScene(workerEnv: Record<string, string> = {}): Promise<Scene> {
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(orchestrator, workerEnv);
  const job = await sampleJob(site.backends, { variant: "working" });
  const held = site.keep(holdPush(site.backends, job));
  await deployment.publish(job);
  await untilState(orchestrator, job.job_id, "BUILDING");
  return { job, release: () => held.release(), worker, orchestrator };
}

async function killBroker(): Promise<void> {
  await site.backends.rabbitmq.writeQueueList();
  await site.backends.rabbitmq.kill();
}

async function expectOneResult({ job, worker, orchestrator }: Scene): Promise<void> {
  await expectSuccess(site, job, { worker });
  await untilFree(orchestrator, worker);
  expect(runsStarted(worker, job)).toBe(1);
  expect(tagPuts(site, job)).toHaveLength(1);
  await expectNothingLeft(site.deployment, orchestrator);
}

test("broker faults: RabbitMQ is killed and started again while a job builds", async () => {
  const scene = await startScene();
  await killBroker();
  await site.backends.rabbitmq.start();
  await untilReady(scene.orchestrator);
  await site.deployment.reconnect();
  await scene.orchestrator.process.waitForLine("attaching to a running job", { timeoutMs: 30_000 });
  scene.release();
  await expectOneResult(scene);
});

inFullCheck().test(
  "broker faults: a build ends while RabbitMQ is down: its result is kept, and published when RabbitMQ is back",
  async () => {
    const scene = await startScene();
    await killBroker();
    scene.release();
    await scene.worker.process.waitForLine("run ended", { timeoutMs: 30_000 });
    await site.backends.rabbitmq.start();
    await untilReady(scene.orchestrator);
    await site.deployment.reconnect();
    await expectOneResult(scene);
  },
);

inFullCheck().test("broker faults: RabbitMQ freezes while a build ends", async () => {
  const { rabbitmq } = site.backends;
  const scene = await startScene();
  const frozen = site.keep({ release: () => rabbitmq.resume() });
  rabbitmq.pause();
  scene.release();
  await scene.worker.process.waitForLine("run ended", { timeoutMs: 30_000 });
  frozen.release();
  await expectOneResult(scene);
});

test("broker faults: RabbitMQ freezes while a build ends, and dies: the result is published, and its slot is free again", async () => {
  const scene = await startScene();
  const { rabbitmq } = site.backends;
  await rabbitmq.writeQueueList();
  rabbitmq.pause();
  scene.release();
  await scene.worker.process.waitForLine("run ended", { timeoutMs: 30_000 });
  const isRecorded = async () => (await shownJob(scene.orchestrator, scene.job.job_id))?.result;
  await waitFor(isRecorded, { timeoutMs: 30_000, what: "the result to be recorded" });
  await rabbitmq.kill();
  await rabbitmq.start();
  await untilReady(scene.orchestrator);
  await site.deployment.reconnect();
  await expectOneResult(scene);
});

inFullCheck().test("broker faults: all connections are closed while a job builds", async () => {
  const scene = await startScene();
  const closeAll = ["close_all_connections", "--vhost", site.deployment.vhost, "a test"];
  await site.backends.rabbitmq.rabbitmqctl(closeAll);
  await site.deployment.reconnect();
  await scene.orchestrator.process.waitForLine("attaching to a running job", { timeoutMs: 30_000 });
  scene.release();
  await expectOneResult(scene);
});

inFullCheck().test(
  "broker faults: a build runs longer than the broker's consumer timeout: it runs once, and disturbs no other",
  async () => {
    const { rabbitmq } = site.backends;
    await rabbitmq.setConsumerTimeout(2_000, 500);
    try {
      const scene = await startScene({ BLACKTREE_WORKER_SLOTS: "2" });
      const { job, worker, orchestrator } = scene;
      await waitFor(() => linesAbout(orchestrator, job, "attaching to a running job").length >= 2, {
        timeoutMs: 30_000,
        what: "two take-overs",
      });
      const quick = await sampleJob(site.backends, { variant: "working" });
      await site.deployment.publish(quick);
      await expectSuccess(site, quick);
      expect(runsStarted(worker, quick)).toBe(1);
      scene.release();
      await expectOneResult(scene);
    } finally {
      await rabbitmq.setConsumerTimeout();
    }
  },
);

test("broker faults: an orchestrator that receives SIGTERM while RabbitMQ blocks publishers exits, and loses no job", async () => {
  const { rabbitmq } = site.backends;
  const deployment = await site.deploy();
  const orchestrator = await deployment.startOrchestrator();
  const job = await sampleJob(site.backends, { variant: "working" });
  orchestrator.process.pause();
  await deployment.publish(job);
  await rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1})");
  try {
    orchestrator.process.resume();
    await orchestrator.process.waitForLine("is blocking publishers", { timeoutMs: 60_000 });
    orchestrator.process.signal("SIGTERM");
    await orchestrator.process.waitForLine("orchestrator stopped", { timeoutMs: 60_000 });
    expect(await orchestrator.process.exited).toBe(0);
  } finally {
    await rabbitmq.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.6)");
  }
  const next = await deployment.startOrchestrator();
  const worker = await deployment.startWorker(next);
  await expectSuccess(site, job, { worker });
  await expectNothingLeft(deployment, next);
});
