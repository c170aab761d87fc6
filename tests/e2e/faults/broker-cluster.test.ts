/**
 * Nodes of a RabbitMQ cluster die while jobs wait, run and end: every job has one result, and no job pays an attempt.
 * One node stays alive, and the test uses that one.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { JobResult } from "../../../src/shared/job.ts";
import {
  bodyOf,
  type Deployment,
  type OrchestratorProcess,
  readiness,
  shownJob,
  untilReady,
  untilState,
  type WorkerProcess,
} from "../../support/blacktree/deployment.ts";
import {
  anyOf,
  expectNothingLeft,
  faultSite,
  holderOf,
  holdPush,
  runsStarted,
  type SampleJob,
  sampleJob,
  tagPuts,
} from "../../support/blacktree/fault-site.ts";
import { inFullCheck } from "../../support/machine/full-check.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { missingDebian13 } from "../../support/servers/debian-13.ts";
import { type RabbitMq, type RabbitMqCluster, startRabbitMqCluster } from "../../support/servers/rabbitmq.ts";

const TIMEOUT_MS = 120_000;
const TEST_TIMEOUT_MS = 400_000;
const WAITING_JOBS = 6;

const reason = await missingDebian13();
const name = reason === undefined ? "RabbitMQ cluster" : `RabbitMQ cluster (skipped: ${reason})`;

inFullCheck().describe(name, () => {
  describe.skipIf(reason !== undefined)("faults", describeFaults);
});

interface Scene {
  readonly deployment: Deployment;
  /** Connected to the node that leads the queues. */
  readonly first: OrchestratorProcess;
  /** Connected to another node. */
  readonly second: OrchestratorProcess;
  readonly worker: WorkerProcess;
  /** Its build is held before the push. */
  readonly running: SampleJob;
  /** Behind it, in its ready queue. */
  readonly waiting: readonly SampleJob[];
  /** Lets the running build continue. */
  release(): void;
}

function describeFaults(): void {
  const site = faultSite();
  let cluster: RabbitMqCluster;

  beforeAll(async () => {
    cluster = await startRabbitMqCluster({ version: "4.0" });
  });
  afterAll(() => cluster?.stop(), 60_000);

  /** For an orchestrator that connects to this node first. */
  function brokerEnv(vhost: string, first: RabbitMq): Record<string, string> {
    const nodes = [first, ...cluster.nodes.filter((node) => node !== first)];
    return { RABBITMQ_URL: nodes.map((node) => node.urlOf(vhost)).join(",") };
  }

  async function startScene(): Promise<Scene> {
    const [leader, other, ours] = cluster.nodes;
    const deployment = await site.deploy({ rabbitmq: ours });
    // The first one declares the queues, so its node leads them.
    const first = await deployment.startOrchestrator(brokerEnv(deployment.vhost, leader));
    const second = await deployment.startOrchestrator(brokerEnv(deployment.vhost, other));
    const worker = await deployment.startWorker(anyOf(first, second));
    const running = await sampleJob(site.backends, { variant: "working" });
    const held = site.keep(holdPush(site.backends, running));
    await deployment.publish(running);
    await untilState(first, running.job_id, "PUSHING");
    const waiting: SampleJob[] = [];
    for (let count = 0; count < WAITING_JOBS; count++)
      waiting.push(await sampleJob(site.backends, { variant: "working" }));
    for (const job of waiting) await deployment.publish(job);
    for (const { job_id } of waiting) await untilState(first, job_id, "QUEUED");
    return { deployment, first, second, worker, running, waiting, release: () => held.release() };
  }

  async function untilEnded(orchestrator: OrchestratorProcess, jobs: readonly SampleJob[]): Promise<void> {
    for (const { job_id } of jobs) {
      const hasEnded = async () => (await shownJob(orchestrator, job_id))?.result;
      await waitFor(hasEnded, { timeoutMs: TIMEOUT_MS, what: `${job_id} to have its result` });
    }
  }

  /** A connection that is lost right after a publish leaves open whether it arrived: a result may be repeated then. */
  async function expectOneResultEach(
    { deployment, worker }: Scene,
    jobs: readonly SampleJob[],
    ...orchestrators: readonly OrchestratorProcess[]
  ): Promise<void> {
    await Promise.all(orchestrators.map((orchestrator) => untilReady(orchestrator)));
    await deployment.reconnect();
    const results = new Map<string, Set<string>>();
    const takeAll = async () => {
      for (;;) {
        const found = await deployment.amqp.get("jobs.results", { noAck: true });
        if (found === false) return results.size === jobs.length;
        const { job_id } = bodyOf<JobResult>(found);
        results.set(job_id, (results.get(job_id) ?? new Set()).add(found.content.toString()));
      }
    };
    await waitFor(takeAll, { timeoutMs: TIMEOUT_MS, what: "a result of each job" });
    for (const job of jobs) {
      const bodies = [...(results.get(job.job_id) ?? [])];
      expect(bodies).toHaveLength(1);
      expect(JSON.parse(`${bodies[0]}`)).toMatchObject({ status: "SUCCESS", attempt: 1 });
      expect(runsStarted(worker, job)).toBe(1);
      expect(tagPuts(site, job)).toHaveLength(1);
    }
    await expectNothingLeft(deployment, ...orchestrators);
  }

  for (const [dying, victim] of [
    ["that leads the queues", 0],
    ["to which only the second orchestrator is connected", 1],
  ] as const) {
    test(
      `cluster faults: the node ${dying} is killed while jobs wait, run and end, and starts again`,
      async () => {
        const scene = await startScene();
        const { deployment, first, second, running, waiting } = scene;
        const node = cluster.nodes[victim];
        scene.release();
        await untilEnded(first, [running]);
        await node.kill();
        const late = await sampleJob(site.backends, { variant: "working" });
        await deployment.publish(late);
        await untilEnded(second, [...waiting, late]);
        await node.start();
        await expectOneResultEach(scene, [running, ...waiting, late], first, second);
      },
      TEST_TIMEOUT_MS,
    );
  }

  test(
    "cluster faults: without a majority nothing is accepted or lost, /readyz says so, and all continues with it",
    async () => {
      const scene = await startScene();
      const { deployment, first, second, worker, running, waiting } = scene;
      const [leader, other] = cluster.nodes;
      await Promise.all([leader.kill(), other.kill()]);
      for (const orchestrator of [first, second]) {
        const isNotReady = async () => (await readiness(orchestrator)).status === 503;
        await waitFor(isNotReady, { timeoutMs: TIMEOUT_MS, what: "/readyz to answer 503" });
      }
      scene.release();
      await worker.process.waitForLine("run ended", { timeoutMs: TIMEOUT_MS });
      const late = await sampleJob(site.backends, { variant: "working" });
      let isConfirmed = false;
      await deployment.reconnect();
      const publishing = deployment.publish(late).then(
        () => {
          isConfirmed = true;
        },
        // The connection was lost: the sender does not know whether the job was accepted, and repeats it.
        () => undefined,
      );
      expect(isConfirmed).toBeFalse();
      await Promise.all([leader.start(), other.start()]);
      await Promise.all([untilReady(first), untilReady(second)]);
      await publishing;
      if (!isConfirmed) {
        await deployment.reconnect();
        await deployment.publish(late);
      }
      await untilEnded(first, [running, ...waiting, late]);
      await expectOneResultEach(scene, [running, ...waiting, late], first, second);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "cluster faults: an orchestrator is killed together with the node that leads the queues",
    async () => {
      const scene = await startScene();
      const { first, second, running, waiting } = scene;
      const [leader] = cluster.nodes;
      const [holder, survivor] = await holderOf(running, [first, second], "job assigned");
      await Promise.all([holder.process.kill(), leader.kill()]);
      scene.release();
      await untilEnded(survivor, [running, ...waiting]);
      await leader.start();
      await expectOneResultEach(scene, [running, ...waiting], survivor);
    },
    TEST_TIMEOUT_MS,
  );
}
