import { afterEach, beforeEach, expect, test } from "bun:test";
import { connect } from "amqplib";
import { fullCheckVariable } from "../../support/machine/full-check.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { startTcpProxy } from "../../support/servers/tcp-proxy.ts";
import { startOrchestratorSite } from "./orchestrator-site.ts";
import { INCARNATION, serveWorker, successfulEnd } from "./workers/worker-service.ts";

const LOG_LIMITS = { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } };
const JOBS = process.env[fullCheckVariable] === undefined ? 200 : 2000;

let rabbitmq: RabbitMqServer;
let redis: Redis;

// A test may leave jobs behind: each has a virtual host and a Redis.
beforeEach(async () => {
  [rabbitmq, redis] = await Promise.all([borrowRabbitMq(), startRedis()]);
});
afterEach(async () => {
  await Promise.all([rabbitmq?.stop(), redis?.stop()]);
});

test("dispatcher: on an idle fleet no job needs the poll", async () => {
  const site = await startOrchestratorSite({
    rabbitMqUrl: rabbitmq.url,
    redisUrl: redis.url,
    pollIntervalMs: 3_600_000,
  });
  const worker = await serveWorker(async () => successfulEnd(), {
    keptBytes: 1000,
    tail: { lines: 10, bytes: 1000 },
  });
  try {
    await site.addWorker("worker", INCARNATION, worker.port);
    for (let count = 1; count <= JOBS; count += 1) {
      expect(await site.run(`job-${count}`)).toMatchObject({ job_id: `job-${count}`, status: "SUCCESS" });
    }
  } finally {
    await site.stop();
    await worker.stop(100);
  }
});

test("dispatcher: after a lost broker connection, running builds are attached to within a few pings", async () => {
  const builds = 40;
  const proxy = await startTcpProxy(rabbitmq);
  const throughProxy = new URL(rabbitmq.url);
  throughProxy.port = String(proxy.port);
  const site = await startOrchestratorSite(
    { rabbitMqUrl: throughProxy.href, clientUrl: rabbitmq.url, redisUrl: redis.url },
    // Also on a busy machine, all of them are attached to before half as many pings.
    { BLACKTREE_PING_INTERVAL: "2s" },
  );
  const finish = Promise.withResolvers<void>();
  let [pings, begun] = [0, 0];
  const worker = await serveWorker(
    async () => {
      begun += 1;
      await finish.promise;
      return successfulEnd();
    },
    LOG_LIMITS,
    {
      slots: builds,
      onPing: () => {
        pings += 1;
      },
    },
  );
  const logged = (text: string) => site.log.filter((line) => line.includes(text)).length;
  const until = (text: string, count: number) =>
    waitFor(() => logged(text) >= count, { timeoutMs: 120_000, what: `${count} times ${text}` });
  try {
    await site.addWorker("worker", INCARNATION, worker.port, { slots: builds });
    for (let count = 1; count <= builds; count += 1) site.submit(`build-${count}`);
    await waitFor(() => begun === builds, { timeoutMs: 120_000, what: "all builds to begin" });
    proxy.reset();
    await until("RabbitMQ is not reachable", 1);
    proxy.heal();
    await until("connected to RabbitMQ", 2);
    const pingsBefore = pings;
    await until("attaching to a running job", builds);
    expect(pings - pingsBefore).toBeLessThan(builds / 2);
  } finally {
    finish.resolve();
    await site.stop();
    await worker.stop(100);
    await proxy.stop();
  }
});

test("dispatcher: after a lost broker connection, a job that was not sent to its worker does not wait for its lease", async () => {
  const broker = await startTcpProxy(rabbitmq);
  const throughProxy = new URL(rabbitmq.url);
  throughProxy.port = String(broker.port);
  const worker = await serveWorker(async () => successfulEnd(), LOG_LIMITS);
  const network = await startTcpProxy(worker);
  const site = await startOrchestratorSite(
    { rabbitMqUrl: throughProxy.href, clientUrl: rabbitmq.url, redisUrl: redis.url },
    { BLACKTREE_PING_INTERVAL: "60s", BLACKTREE_LEASE_TTL: "10m" },
  );
  const until = (text: string) =>
    waitFor(() => site.log.some((line) => line.includes(text)), { timeoutMs: 60_000, what: text });
  try {
    await site.addWorker("worker", INCARNATION, network.port);
    expect(await site.run("before")).toMatchObject({ status: "SUCCESS" });
    // The next call needs another connection, and gets none.
    network.reset();
    network.cut();
    const statuses: string[] = [];
    void site.run("unsent").then(({ status, attempt }) => statuses.push(`${status} ${attempt}`));
    await until('"job_id":"unsent","attempt":1');
    broker.reset();
    await until("delivery revoked by broker");
    broker.heal();
    network.heal();
    await waitFor(() => statuses.length > 0, { timeoutMs: 120_000, what: "the result" });
    expect(statuses).toEqual(["SUCCESS 1"]);
  } finally {
    await site.stop();
    await worker.stop(100);
    await Promise.all([network.stop(), broker.stop()]);
  }
});

test("dispatcher: a region's jobs come before another region's backlog that falls back to it, which takes turns", async () => {
  const site = await startOrchestratorSite(
    { rabbitMqUrl: rabbitmq.url, redisUrl: redis.url },
    { BLACKTREE_REGIONS: "a,c", BLACKTREE_REGION_FALLBACK: "b" },
  );
  const started: string[] = [];
  let finish = Promise.withResolvers<void>();
  const worker = await serveWorker(async ({ jobId }) => {
    started.push(jobId);
    const current = Promise.withResolvers<void>();
    finish = current;
    await current.promise;
    return successfulEnd();
  }, LOG_LIMITS);
  const until = (condition: () => boolean, what: string) => waitFor(condition, { timeoutMs: 60_000, what });
  const queued = () => site.log.filter((line) => line.includes('"job queued"')).length;
  try {
    await site.addWorker("worker", INCARNATION, worker.port, { region: "b" });
    for (let count = 1; count <= 40; count += 1) site.submit(`a${count}`, { worker_region: "a" });
    await until(() => queued() === 40 && started.length === 1, "the backlog, and its first job");
    for (const jobId of ["c1", "b1", "b2"]) site.submit(jobId, { worker_region: jobId[0] });
    await until(() => queued() === 43, "the other regions' jobs");
    for (let count = 2; count <= 5; count += 1) {
      finish.resolve();
      await until(() => started.length === count, `job number ${count}`);
    }
    expect(started.slice(0, 3)).toEqual(["a1", "b1", "b2"]);
    expect(started.slice(3)).toContain("c1");
  } finally {
    const isStopping = setInterval(() => finish.resolve(), 10);
    await site.stop();
    clearInterval(isStopping);
    await worker.stop(100);
  }
});

test("dispatcher: held jobs keep their place when the orchestrator stops, also with a slow broker", async () => {
  const jobs = Array.from({ length: 70 }, (_, index) => `job-${index}`);
  // Together more than the channels that are kept for the next jobs.
  const regions = ["a", "b"];
  const proxy = await startTcpProxy(rabbitmq);
  const throughProxy = new URL(rabbitmq.url);
  throughProxy.port = String(proxy.port);
  const servers = { rabbitMqUrl: throughProxy.href, clientUrl: rabbitmq.url, redisUrl: redis.url };
  const site = await startOrchestratorSite(servers, { BLACKTREE_REGIONS: regions.join(",") });
  const workers = await Promise.all(
    regions.map((workerId) => serveWorker(async () => successfulEnd(), LOG_LIMITS, { workerId })),
  );
  try {
    // The workers have free slots and cannot build them.
    for (const [index, { port }] of workers.entries()) {
      const region = regions[index] as string;
      await site.addWorker(region, INCARNATION, port, { region });
      for (const jobId of jobs)
        site.submit(`${region}-${jobId}`, { worker_region: region, platforms: ["linux/s390x"] });
    }
    const isBacklogged = async () => {
      const totals = await rabbitmq.queueTotals(rabbitmq.vhost);
      const counts = (region: string) => totals.find(({ name }) => name === readyQueueOf(region));
      return regions.every((region) => counts(region)?.unacked === 64 && counts(region)?.ready === 6);
    };
    await waitFor(isBacklogged, { timeoutMs: 120_000, what: "held jobs, and others behind them" });
  } finally {
    proxy.cut("answers");
    const slow = setInterval(() => {
      proxy.heal();
      proxy.cut("answers");
    }, 5);
    await site.stop();
    clearInterval(slow);
    proxy.heal();
    await Promise.all(workers.map((worker) => worker.stop(100)));
    await proxy.stop();
  }
  for (const region of regions)
    expect(await waitingJobs(readyQueueOf(region))).toEqual(jobs.map((jobId) => `${region}-${jobId}`));
});

test("dispatcher: held jobs stay held when placing one of them fails", async () => {
  const jobs = ["job-1", "job-2", "job-3"];
  const site = await startOrchestratorSite({
    rabbitMqUrl: rabbitmq.url,
    redisUrl: redis.url,
    pollIntervalMs: 50,
  });
  const worker = await serveWorker(async () => successfulEnd(), LOG_LIMITS);
  const permitKeys = (...patterns: readonly string[]) =>
    redis.cli("ACL", "SETUSER", "default", "resetkeys", ...patterns.map((pattern) => `~${pattern}`));
  try {
    await site.addWorker("worker", INCARNATION, worker.port);
    for (const jobId of jobs) site.submit(jobId, { platforms: ["linux/s390x"] });
    const areHeld = async () => {
      const totals = await rabbitmq.queueTotals(rabbitmq.vhost);
      return totals.some(
        ({ name, unacked }) => name === readyQueueOf("us-east-1") && unacked === jobs.length,
      );
    };
    await waitFor(areHeld, { timeoutMs: 60_000, what: "held jobs" });
    // Free slots can be read, and the claim of each job fails.
    const readable = ["", "[^c]*", "claims:*", "cancel*", "controls*"];
    await permitKeys(...readable.map((pattern) => `{blacktree}:${pattern}`));
    const isRefused = async () => (await redis.cli("ACL", "LOG")).includes("claim:job-");
    await waitFor(isRefused, { timeoutMs: 60_000, what: "a failed claim" });
    await permitKeys("*");
    const statuses: string[] = [];
    for (const _ of jobs) void site.nextResult().then(({ status }) => statuses.push(status));
    await site.addWorker("worker", INCARNATION, worker.port, { capabilities: ["linux/s390x"] });
    await waitFor(() => statuses.length === jobs.length, { timeoutMs: 60_000, what: "all results" });
    expect(statuses).toEqual(jobs.map(() => "SUCCESS"));
  } finally {
    await site.stop();
    await worker.stop(100);
  }
});

function readyQueueOf(region: string): string {
  return `jobs.ready.${region}.normal`;
}

/** The ids of the jobs in the queue, in its order. */
async function waitingJobs(queue: string): Promise<readonly string[]> {
  const client = await connect(rabbitmq.url);
  const channel = await client.createChannel();
  const jobIds: string[] = [];
  for (let message = await channel.get(queue); message; message = await channel.get(queue))
    jobIds.push(String(message.properties.headers?.["x-blacktree-job-id"]));
  await client.close();
  return jobIds;
}
