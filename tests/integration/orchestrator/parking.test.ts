/** Jobs for unknown worker regions, with RabbitMQ, Redis and workers over real gRPC. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import pino from "pino";
import { openEmbeddedDatabase } from "../../../src/orchestrator/embedded-database.ts";
import { KnownRegions } from "../../../src/orchestrator/known-regions.ts";
import { InProcessLeases } from "../../../src/orchestrator/leases/in-process.ts";
import { Parking, type ParkingParts } from "../../../src/orchestrator/parking.ts";
import type { ReadyMessage } from "../../../src/orchestrator/queue/queue.ts";
import { SqliteQueue } from "../../../src/orchestrator/queue/sqlite/queue.ts";
import { SqliteJobRecords } from "../../../src/orchestrator/records/sqlite.ts";
import { type Job, PRIORITIES } from "../../../src/shared/job.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { type OrchestratorSite, startOrchestratorSite } from "./orchestrator-site.ts";
import { INCARNATION, serveWorker, successfulEnd } from "./workers/worker-service.ts";

const LOG_LIMITS = { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } };

function until(condition: () => boolean | Promise<boolean>, what: string): Promise<unknown> {
  return waitFor(condition, { timeoutMs: 60_000, what });
}

describe("parking", () => {
  let rabbitmq: RabbitMqServer;
  let redis: Redis;
  const sites: OrchestratorSite[] = [];

  beforeEach(async () => {
    [rabbitmq, redis] = await Promise.all([borrowRabbitMq(), startRedis()]);
  });

  afterEach(async () => {
    await Promise.all(sites.splice(0).map((site) => site.stop()));
    await Promise.all([rabbitmq?.stop(), redis?.stop()]);
  });

  async function startSite(environment: Readonly<Record<string, string>> = {}): Promise<OrchestratorSite> {
    const site = await startOrchestratorSite({ rabbitMqUrl: rabbitmq.url, redisUrl: redis.url }, environment);
    sites.push(site);
    return site;
  }

  async function submitted(site: OrchestratorSite, jobId: string, fields: object): Promise<void> {
    site.submit(jobId, { ...fields });
    await until(
      () => site.log.some((line) => line.includes(`"${jobId}"`) && line.includes('"job queued"')),
      jobId,
    );
  }

  /** The ready queues of all regions, and the number of messages in each of them that has any. */
  async function readyQueues(): Promise<{ readonly regions: readonly string[]; readonly waiting: object }> {
    const totals = await rabbitmq.queueTotals(rabbitmq.vhost);
    const names = new Set(totals.map(({ name }) => name));
    const withNormal = [...names].map((name) => /^jobs\.ready\.(.+)\.normal$/.exec(name)?.[1] ?? "");
    const isComplete = (region: string) =>
      PRIORITIES.every((priority) => names.has(`jobs.ready.${region}.${priority}`));
    const regions = withNormal.filter(isComplete).toSorted();
    const waiting: Record<string, number> = {};
    for (const { name, ready, unacked } of totals) {
      const messages = ready + unacked;
      if (!name.startsWith("jobs.ready.") || name === "jobs.ready.regions" || messages === 0) continue;
      // A check moves jobs from one queue to the other.
      const place = name.replace("unknown-region.checked", "unknown-region");
      waiting[place] = (waiting[place] ?? 0) + messages;
    }
    return { regions, waiting };
  }

  /** A check counts a job twice for a moment, and regions of the settings are added in the background. */
  function untilQueuesAre(regions: readonly string[], waiting: Readonly<Record<string, number>>) {
    return until(async () => {
      expect(await readyQueues()).toEqual({ regions, waiting });
      return true;
    }, "the expected queues");
  }

  test("jobs for 60 invented regions share a queue; once a worker of one region registers, exactly its jobs run, in order", async () => {
    const site = await startSite();
    const started: string[] = [];
    const worker = await serveWorker(async ({ jobId }) => {
      started.push(jobId);
      return successfulEnd();
    }, LOG_LIMITS);
    for (let index = 0; index < 60; index++)
      site.submit(`job-${index}`, { worker_region: `made-up-${index}` });
    await until(
      () => site.log.filter((line) => line.includes('"job queued"')).length === 60,
      "60 waiting jobs",
    );
    for (const jobId of ["later-1", "later-2"])
      await submitted(site, jobId, { worker_region: "made-up-7", priority: "normal" });
    await untilQueuesAre(["us-east-1"], { "jobs.ready.unknown-region": 62 });
    const logged = site.log.filter((line) => line.includes("job waits for an unknown worker region"));
    expect(logged).toHaveLength(60);
    expect(logged.join()).toContain('"job_id":"job-7","worker_region":"made-up-7"');

    await site.addWorker("worker", INCARNATION, worker.port, { region: "made-up-7" });
    await until(() => started.length === 3, "the jobs of the worker's region");
    await untilQueuesAre(["made-up-7", "us-east-1"], { "jobs.ready.unknown-region": 59 });
    expect(started).toEqual(["job-7", "later-1", "later-2"]);

    // From now on its region is known.
    await submitted(site, "later-3", { worker_region: "made-up-7" });
    await until(() => started.at(-1) === "later-3", "a job for the region that is known now");
    await worker.stop(100);
  });

  test("parked jobs move to their ready queue when an orchestrator starts with their region in its settings", async () => {
    const first = await startSite();
    await submitted(first, "job-1", { worker_region: "made-up-1" });
    await submitted(first, "job-2", { worker_region: "made-up-2" });
    await startSite({ BLACKTREE_REGIONS: "made-up-1" });
    await untilQueuesAre(["made-up-1", "us-east-1"], {
      "jobs.ready.made-up-1.normal": 1,
      "jobs.ready.unknown-region": 1,
    });
  });

  test("after the removal of a region's queues as documented, the jobs of the other regions still run", async () => {
    const site = await startSite({ BLACKTREE_REGIONS: "kept-1,gone-1" });
    await submitted(site, "job-1", { worker_region: "kept-1" });
    await untilQueuesAre(["gone-1", "kept-1", "us-east-1"], { "jobs.ready.kept-1.normal": 1 });
    await sites.pop()?.stop();
    const rabbitmqctl = (command: string, queue: string) =>
      rabbitmq.rabbitmqctl([command, "-p", rabbitmq.vhost, queue], { timeoutMs: 120_000 });
    for (const priority of ["high", "normal", "low"])
      await rabbitmqctl("delete_queue", `jobs.ready.gone-1.${priority}`);
    await rabbitmqctl("purge_queue", "jobs.ready.regions");

    const next = await startSite({ BLACKTREE_REGIONS: "kept-1" });
    const started: string[] = [];
    const worker = await serveWorker(async ({ jobId }) => {
      started.push(jobId);
      return successfulEnd();
    }, LOG_LIMITS);
    await next.addWorker("worker", INCARNATION, worker.port, { region: "kept-1" });
    await until(() => started.length > 0, "the job of the region that was kept");
    await untilQueuesAre(["kept-1", "us-east-1"], {});
    await worker.stop(100);
  });

  test("a job that may fall back runs in its region if a worker registers there first", async () => {
    const site = await startSite({ BLACKTREE_REGION_FALLBACK: "back-1" });
    const started: string[] = [];
    const worker = await serveWorker(async ({ jobId }) => {
      started.push(jobId);
      return successfulEnd();
    }, LOG_LIMITS);
    await submitted(site, "job-1", { worker_region: "made-up-1" });
    await site.addWorker("worker", INCARNATION, worker.port, { region: "made-up-1" });
    await until(() => started.length > 0, "the job");
    await worker.stop(100);
  });

  test("a job for an unknown region that may fall back runs in a fallback region", async () => {
    const site = await startSite({ BLACKTREE_REGION_FALLBACK: "back-1" });
    const started: string[] = [];
    const worker = await serveWorker(async ({ jobId }) => {
      started.push(jobId);
      return successfulEnd();
    }, LOG_LIMITS);
    await site.addWorker("worker", INCARNATION, worker.port, { region: "back-1" });
    await submitted(site, "stays", { worker_region: "made-up-1", region_policy: "require" });
    await submitted(site, "falls-back", { worker_region: "made-up-1" });
    await until(() => started.length > 0, "the job that may fall back");
    expect(started).toEqual(["falls-back"]);
    await untilQueuesAre(["_fallback", "back-1", "us-east-1"], { "jobs.ready.unknown-region": 1 });
    await worker.stop(100);
  });
});

describe("parking with the embedded queue", () => {
  const logger = pino({ level: "silent" });
  const never = new AbortController().signal;
  let folder: TempDir;
  let database: ReturnType<typeof openEmbeddedDatabase>;
  let queue: SqliteQueue;
  let leases: InProcessLeases;
  let known: KnownRegions;
  const started: { stop(): void }[] = [];

  beforeEach(async () => {
    folder = await makeTempDir("parking");
    database = openEmbeddedDatabase(join(folder.path, "blacktree.db"));
    queue = new SqliteQueue({ database, resultMemoryMs: 60_000, logger });
    leases = new InProcessLeases({ leaseTtlMs: 600_000, jobMemoryMs: 60_000, settleMs: 0, logger });
    queue.start();
    leases.start();
  });

  afterEach(async () => {
    for (const each of started.splice(0)) each.stop();
    await leases.close();
    await queue.close();
    database.close();
    await folder.remove();
  });

  /** `changes`: what differs from the queue. */
  function start(changes: Partial<ParkingParts["queue"]> = {}, parts: Partial<ParkingParts> = {}): Parking {
    const records = new SqliteJobRecords({ database, jobMemoryMs: 60_000 });
    const settings = { region: "us-east-1", regions: [], regionFallback: [], unknownRegion: "wait" as const };
    known = new KnownRegions({ ...settings, leases, records, logger });
    const changed: ParkingParts["queue"] = {
      isReady: true,
      regions: () => queue.regions(),
      addRegion: (region) => queue.addRegion(region),
      offer: (...args) => queue.offer(...args),
      park: (...args) => queue.park(...args),
      unpark: (isKnown) => queue.unpark(isKnown),
      ...changes,
    };
    const parking = new Parking({ regionFallback: [], queue: changed, regions: known, logger, ...parts });
    known.start();
    parking.start();
    started.push(known, parking);
    return parking;
  }

  const jobFor = (workerRegion: string, jobId = "job-1") =>
    ({ jobId, workerRegion, priority: "normal", regionPolicy: "prefer" }) as Job;

  const message: ReadyMessage = {
    body: Buffer.from("{}"),
    properties: {},
    envelope: { jobId: "job-1", acceptedAt: new Date(), defaultRegion: "us-east-1" },
  };

  async function register(region: string): Promise<void> {
    const worker = { workerId: region, incarnation: "1", address: `${region}:1`, slots: 1, version: "1" };
    await leases.register({ ...worker, region, capabilities: [], runs: [] });
  }

  const untilReady = (region: string) =>
    waitFor(() => queue.take({ region, priority: "normal" }), { timeoutMs: 60_000, what: "the job to move" });

  test("a job whose region becomes known while it is being parked moves", async () => {
    let checks = 0;
    const parking = start({
      async park(...args) {
        const checksBefore = checks;
        await register("late-1");
        await until(() => checks > checksBefore, "a check that misses the job");
        await queue.park(...args);
      },
      async unpark(isKnown) {
        await queue.unpark(isKnown);
        if (isKnown("late-1")) checks += 1;
      },
    });
    await parking.offer(jobFor("late-1"), message, never);
    await untilReady("late-1");
  });

  test("a region that becomes known during a check of the parked jobs has to wait for the next check", async () => {
    const checks: (readonly boolean[])[] = [];
    const parking = start({
      async unpark(isKnown) {
        const before = isKnown("late-1");
        if (checks.length === 0) {
          await register("late-1");
          await until(() => known.has("late-1"), "the region to be known");
        }
        checks.push([before, isKnown("late-1")]);
        await queue.unpark(isKnown);
      },
    });
    await parking.offer(jobFor("late-1"), message, never);
    await untilReady("late-1");
    // A slow parking causes a third check.
    expect(checks.slice(0, 2)).toEqual([
      [false, false],
      [true, true],
    ]);
  });

  test("a check of the parked jobs that fails is repeated", async () => {
    let checks = 0;
    const parking = start({
      async unpark(isKnown) {
        checks += 1;
        if (checks <= 2) throw new Error("the connection was lost");
        await queue.unpark(isKnown);
      },
    });
    await parking.offer(jobFor("late-1"), message, never);
    await register("late-1");
    await untilReady("late-1");
  });

  test("a region is logged once an hour, with what makes it known", async () => {
    const lines: string[] = [];
    let nowMs = 0;
    const toLines = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
    const parking = start({}, { logger: toLines, nowMs: () => nowMs });
    for (const jobId of ["job-1", "job-2"]) await parking.offer(jobFor("unknown-1", jobId), message, never);
    await parking.offer(jobFor("unknown-2", "job-3"), message, never);
    nowMs += 3_600_000;
    await parking.offer(jobFor("unknown-1", "job-4"), message, never);
    const logged = lines
      .map((line) => JSON.parse(line))
      .map(({ worker_region, job_id }) => [worker_region, job_id]);
    expect(logged).toEqual([
      ["unknown-1", "job-1"],
      ["unknown-2", "job-3"],
      ["unknown-1", "job-4"],
    ]);
    expect(lines[0]).toContain("start a worker there, or add the region to BLACKTREE_REGIONS");
  });
});
