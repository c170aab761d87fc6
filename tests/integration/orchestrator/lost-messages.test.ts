/** Jobs whose message RabbitMQ has dropped, with RabbitMQ, Redis and workers over real gRPC. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { connect } from "amqplib";
import pino from "pino";
import { openEmbeddedDatabase } from "../../../src/orchestrator/embedded-database.ts";
import { InProcessLeases } from "../../../src/orchestrator/leases/in-process.ts";
import { LOST_AFTER_MS, LostMessages } from "../../../src/orchestrator/lost-messages.ts";
import { FALLBACK_QUEUES } from "../../../src/orchestrator/parking.ts";
import { SqliteQueue } from "../../../src/orchestrator/queue/sqlite/queue.ts";
import { SqliteJobRecords } from "../../../src/orchestrator/records/sqlite.ts";
import type { Job, JobState } from "../../../src/shared/job.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { type OrchestratorSite, startOrchestratorSite } from "./orchestrator-site.ts";
import { INCARNATION, serveWorker, successfulEnd } from "./workers/worker-service.ts";

const LOG_LIMITS = { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } };
const READY_QUEUE = "jobs.ready.us-east-1.normal";
const JOINED = "duplicate message: a job with its id";
const REPLACED = "message is gone from the queues";
describe("lost messages", () => {
  let rabbitmq: RabbitMqServer;
  let redis: Redis;
  const stops: (() => Promise<unknown>)[] = [];

  beforeEach(async () => {
    [rabbitmq, redis] = await Promise.all([borrowRabbitMq(), startRedis()]);
  });

  afterEach(async () => {
    await Promise.all(stops.splice(0).map((stop) => stop()));
    await Promise.all([rabbitmq?.stop(), redis?.stop()]);
  });

  async function startSite(): Promise<OrchestratorSite> {
    const site = await startOrchestratorSite({ rabbitMqUrl: rabbitmq.url, redisUrl: redis.url });
    stops.push(() => site.stop());
    return site;
  }

  async function startWorker(workerId: string, execute: (jobId: string) => Promise<void>) {
    const run = async ({ jobId }: { jobId: string }) => {
      await execute(jobId);
      return successfulEnd();
    };
    const worker = await serveWorker(run, LOG_LIMITS, { workerId });
    stops.push(() => worker.stop(100));
    return worker;
  }

  function until(condition: () => boolean | Promise<boolean>, what: string): Promise<unknown> {
    return waitFor(condition, { timeoutMs: 60_000, what });
  }

  function logged(sites: readonly OrchestratorSite[], text: string, jobId = "job-1"): number {
    const lines = sites.flatMap(({ log }) => log);
    return lines.filter((line) => line.includes(text) && line.includes(`"job_id":"${jobId}"`)).length;
  }

  /** Submits the job, and waits until that many lines with the text are logged. */
  async function submitted(site: OrchestratorSite, text: string, count: number, fields = {}): Promise<void> {
    site.submit("job-1", fields);
    await until(() => logged([site], text) === count, text);
  }

  /** As if the job had not changed for longer than any delay. */
  async function ageJob(): Promise<void> {
    const changedAt = String(Date.now() - LOST_AFTER_MS - 1000);
    await redis.cli("hset", "{blacktree}:job:job-1", "changedAt", changedAt);
  }

  /** As of now; the totals may be older. */
  async function untilReadyQueueIsEmpty(): Promise<void> {
    const model = await connect(rabbitmq.url);
    const channel = await model.createChannel();
    const isEmpty = async () => (await channel.checkQueue(READY_QUEUE)).messageCount === 0;
    await until(isEmpty, "an empty ready queue").finally(() => model.close());
  }

  function untilReadyQueueHas(ready: number, unacked: number): Promise<unknown> {
    return until(async () => {
      const totals = await rabbitmq.queueTotals(rabbitmq.vhost);
      expect(totals).toContainEqual({ name: READY_QUEUE, ready, unacked });
      return true;
    }, `${ready} waiting and ${unacked} delivered messages`);
  }

  test("a waiting job that a policy has dropped runs once its sender repeats the message, with one result", async () => {
    const site = await startSite();
    await rabbitmq.setPolicy(rabbitmq.vhost, "ttl", "^jobs[.]ready[.]us-", { "message-ttl": 200 });
    await submitted(site, "job queued", 1);
    await untilReadyQueueIsEmpty();
    await rabbitmq.clearPolicy(rabbitmq.vhost, "ttl");
    await submitted(site, JOINED, 1);

    await ageJob();
    await submitted(site, REPLACED, 1);
    await until(() => logged([site], "job queued") === 2, "the job in its queue again");
    await submitted(site, JOINED, 2);
    const started: string[] = [];
    const worker = await startWorker("worker", async (jobId) => void started.push(jobId));
    const result = site.nextResult();
    await site.addWorker("worker", INCARNATION, worker.port);
    expect(await result).toMatchObject({ job_id: "job-1", status: "SUCCESS", attempt: 1 });
    await untilReadyQueueIsEmpty();
    expect(started).toEqual(["job-1"]);
    expect(logged([site], "result published")).toBe(1);
  });

  test("a job that seems lost while an orchestrator holds its message runs once, with one result", async () => {
    const sites = [await startSite(), await startSite()] as const;
    const started: string[] = [];
    const ends = { "job-0": Promise.withResolvers<void>(), "job-1": Promise.withResolvers<void>() };
    const execute = async (jobId: string) => {
      started.push(jobId);
      await ends[jobId as keyof typeof ends].promise;
    };
    stops.push(async () => {
      for (const end of Object.values(ends)) end.resolve();
    });
    const [plain, capable] = [await startWorker("plain", execute), await startWorker("capable", execute)];
    await sites[0].addWorker("plain", INCARNATION, plain.port);
    await sites[0].addWorker("capable", INCARNATION, capable.port, { capabilities: ["provenance"] });

    sites[0].submit("job-0", { provenance: true });
    await until(() => started.length === 1, "the job that the other one waits for");
    await submitted(sites[0], "job queued", 1, { provenance: true });
    await untilReadyQueueHas(0, 2);
    await ageJob();
    await submitted(sites[1], REPLACED, 1, { provenance: true });
    await untilReadyQueueHas(0, 3);

    ends["job-0"].resolve();
    await until(() => started.length === 2, "the job that waited");
    await ageJob();
    await submitted(sites[1], JOINED, 1, { provenance: true });
    ends["job-1"].resolve();
    await untilReadyQueueHas(0, 0);
    expect(started).toEqual(["job-0", "job-1"]);
    expect(logged(sites, "result published")).toBe(1);
  });
});

describe("lost messages with the embedded queue", () => {
  const logger = pino({ level: "silent" });
  const job = { jobId: "job-1", workerRegion: "us-east-1", priority: "normal" } as Job;
  let folder: TempDir;
  let database: ReturnType<typeof openEmbeddedDatabase>;
  let queue: SqliteQueue;
  let leases: InProcessLeases;
  let records: SqliteJobRecords;
  let lostMessages: LostMessages;

  beforeEach(async () => {
    folder = await makeTempDir("lost");
    database = openEmbeddedDatabase(join(folder.path, "blacktree.db"));
    queue = new SqliteQueue({ database, resultMemoryMs: 60_000, logger });
    leases = new InProcessLeases({ leaseTtlMs: 600_000, jobMemoryMs: 60_000, settleMs: 0, logger });
    records = new SqliteJobRecords({ database, jobMemoryMs: 60_000 });
    for (const each of [queue, leases, records]) each.start();
    lostMessages = new LostMessages({ queue, leases, records });
    await records.admit({ jobId: job.jobId, job: {}, identity: {}, acceptedAt: new Date(1000) });
    await event("QUEUED", 0);
    await records.queued(job.jobId);
  });

  afterEach(async () => {
    await Promise.all([leases.close(), queue.close()]);
    database.close();
    await folder.remove();
  });

  async function event(state: JobState, attempt: number, details: object = {}): Promise<void> {
    const at = new Date().toISOString();
    await records.append({ job_id: job.jobId, tenant: "acme", attempt, state, at, ...details });
  }

  /** As a message with the job's id, after the job has not changed for this long. */
  async function replaceAfter(ms: number) {
    database.run("UPDATE job_records SET changed_at = ?", [Date.now() - ms]);
    return await lostMessages.replace(job, ms);
  }

  test("the replacement has the attempts of the lost message, and its time of acceptance", async () => {
    await event("ASSIGNED", 1, { worker_id: "worker-1" });
    await event("RETRYING", 1, { worker_id: "worker-1" });
    expect(await replaceAfter(LOST_AFTER_MS - 1)).toBeUndefined();
    const retry = { attempts: 1, lastWorkerId: "worker-1" };
    expect(await replaceAfter(LOST_AFTER_MS)).toEqual({ acceptedAt: new Date(1000), retry });
  });

  test("a job that has never run has no attempts, and its next replacement is possible after twice the time", async () => {
    expect(await replaceAfter(LOST_AFTER_MS)).toEqual({ acceptedAt: new Date(1000), retry: undefined });
    await event("QUEUED", 0, { requeued: true });
    await records.queued(job.jobId);
    expect(await replaceAfter(LOST_AFTER_MS)).toBeUndefined();
    expect(await replaceAfter(2 * LOST_AFTER_MS)).toBeDefined();
  });

  test("a message that waits, or whose job has a worker, is not lost", async () => {
    const envelope = { jobId: job.jobId, acceptedAt: new Date(), defaultRegion: "us-east-1" };
    const message = { body: Buffer.from("{}"), properties: {}, envelope };
    for (const region of ["us-east-1", FALLBACK_QUEUES]) {
      const readyQueue = { region, priority: job.priority };
      await queue.offer(readyQueue, message);
      expect(await replaceAfter(LOST_AFTER_MS)).toBeUndefined();
      (await queue.take(readyQueue))?.ack();
    }
    const worker = { workerId: "worker-1", incarnation: "1", address: "127.0.0.1:1", slots: 1, version: "1" };
    await leases.register({ ...worker, region: job.workerRegion, capabilities: [], runs: [] });
    await leases.observe("worker-1", "1", { status: "FREE", runs: [] });
    expect((await leases.claim({ jobId: job.jobId, regions: [job.workerRegion] })).kind).toBe("claimed");
    expect(await replaceAfter(LOST_AFTER_MS)).toBeUndefined();
  });
});
