import { afterEach, beforeEach, expect, test } from "bun:test";
import { connect } from "amqplib";
import pino from "pino";
import { RedisLeases } from "../../../src/orchestrator/leases/redis.ts";
import type { RpcServer } from "../../../src/shared/rpc/server.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { PATIENT, type Redis, startRedis } from "../../support/servers/redis.ts";
import { startTcpProxy } from "../../support/servers/tcp-proxy.ts";
import { type OrchestratorSite, startOrchestratorSite } from "./orchestrator-site.ts";
import { INCARNATION, serveWorker, successfulEnd } from "./workers/worker-service.ts";

/** Longer than a test: no ping round begins within it. */
const NO_ROUND = { BLACKTREE_PING_INTERVAL: "60s", BLACKTREE_LEASE_TTL: "5m" };
/** After a lease time without an answer, an orchestrator counts a worker as out of its reach. */
const ROUNDS = { BLACKTREE_PING_INTERVAL: "500ms", BLACKTREE_LEASE_TTL: "4s" };
const LOG_LIMITS = { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } };

let rabbitmq: RabbitMqServer;
let redis: Redis;
let worker: RpcServer;
let site: OrchestratorSite | undefined;

// A test may leave jobs behind: each has a virtual host and a Redis.
beforeEach(async () => {
  [rabbitmq, redis] = await Promise.all([borrowRabbitMq(), startRedis()]);
  worker = await serveWorker(async () => successfulEnd(), LOG_LIMITS);
});
afterEach(async () => {
  await site?.stop();
  site = undefined;
  await worker?.stop(100);
  await Promise.all([rabbitmq?.stop(), redis?.stop()]);
});

/** Leases that this orchestrator grants outlast a pause of this process on a busy machine. */
function startLeases(): RedisLeases {
  const times = { leaseTtlMs: 60_000, jobMemoryMs: 600_000, settleMs: 0 };
  const logger = pino({ level: "silent" });
  const leases = new RedisLeases({
    url: redis.url,
    keyPrefix: "{blacktree}:",
    ...times,
    timeouts: PATIENT,
    logger,
  });
  leases.start();
  return leases;
}

async function startSite(environment: Readonly<Record<string, string>>): Promise<OrchestratorSite> {
  const servers = { rabbitMqUrl: rabbitmq.url, redisUrl: redis.url, pollIntervalMs: 3_600_000 };
  site = await startOrchestratorSite(servers, environment);
  return site;
}

test("health checker: a job that waits starts when a worker registers, before the next ping round", async () => {
  const started = await startSite(NO_ROUND);
  const result = started.run("waiting");
  await waitFor(() => started.log.some((line) => line.includes("job queued")), {
    timeoutMs: 60_000,
    what: "the job to wait",
  });
  await started.addWorker("worker", INCARNATION, worker.port);
  expect(await result).toMatchObject({ status: "SUCCESS", attempt: 1 });
});

test("health checker: an orchestrator that starts uses the registered workers before its first ping round", async () => {
  const first = await startSite(NO_ROUND);
  await first.addWorker("worker", INCARNATION, worker.port);
  await first.stop();
  site = undefined;
  const second = await startSite(NO_ROUND);
  expect(await second.run("job")).toMatchObject({ status: "SUCCESS", attempt: 1 });
});

test("health checker: a worker whose address belongs to another one is lost, and the log names both", async () => {
  const started = await startSite(ROUNDS);
  await started.addWorker("shadowed", INCARNATION, worker.port);
  const isReported = () =>
    started.log.some(
      (line) =>
        line.includes('"worker_id":"shadowed"') &&
        line.includes('"answering_worker_id":"worker"') &&
        line.includes("BLACKTREE_WORKER_ADVERTISE"),
    );
  await waitFor(isReported, { timeoutMs: 60_000, what: "the warning" });
  // The other worker is used.
  await started.addWorker("worker", INCARNATION, worker.port);
  expect(await started.run("job")).toMatchObject({ status: "SUCCESS", worker_id: "worker" });
});

test("health checker: an orchestrator that reaches no live worker says so once, and returns the jobs that it holds", async () => {
  const proxy = await startTcpProxy(worker);
  const another = startLeases();
  const model = await connect(rabbitmq.url);
  const channel = await model.createChannel();
  const waiting = async () => (await channel.checkQueue("jobs.ready.us-east-1.normal")).messageCount;
  const cutOff = await startSite(ROUNDS);
  const logged = (text: string) => cutOff.log.filter((line) => line.includes(text));
  const until = (condition: () => boolean | Promise<boolean>, what: string) =>
    waitFor(condition, { timeoutMs: 60_000, what });
  // The pings of another orchestrator, which reaches the worker.
  const pings = setInterval(() => {
    another.observe("worker", INCARNATION, { status: "FREE", runs: [] }).catch(() => undefined);
  }, 200);
  try {
    await until(() => another.isReady, "Redis");
    await cutOff.addWorker("worker", INCARNATION, proxy.port);
    await cutOff.run("first");
    // The worker has a free slot, but cannot build this job.
    cutOff.submit("held", { secrets: { A: "b" } });
    await until(async () => logged("job queued").length === 2 && (await waiting()) === 0, "the held job");
    proxy.reset();
    await until(async () => (await waiting()) === 1, "the held job to be returned");
    await until(() => logged("reaches none of the live workers").length > 0, "the error");
    const [line] = logged("reaches none of the live workers");
    expect(JSON.parse(line ?? "")).toMatchObject({ workers: 1, err: { type: "RpcError" } });
    // The other orchestrator still uses the worker.
    expect(await another.freeSlots()).toEqual([{ region: "us-east-1", capabilities: [], free: 1 }]);
    proxy.heal();
    await until(() => logged("workers are reachable again").length === 1, "the end of the fault");
    expect(logged("reaches none of the live workers")).toHaveLength(1);
    expect(await cutOff.run("next")).toMatchObject({ job_id: "next", status: "SUCCESS" });
  } finally {
    clearInterval(pings);
    await model.close();
    await another.close();
    await cutOff.stop();
    site = undefined;
    await proxy.stop();
  }
});

test("health checker: an orchestrator that no longer reaches the worker of a run returns its message while another one reaches it", async () => {
  const started = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  const busy = await serveWorker(async () => {
    started.resolve();
    await finish.promise;
    return successfulEnd();
  }, LOG_LIMITS);
  const proxy = await startTcpProxy(busy);
  const another = startLeases();
  const model = await connect(rabbitmq.url);
  const channel = await model.createChannel();
  const cutOff = await startSite(ROUNDS);
  const until = (condition: () => boolean | Promise<boolean>, what: string) =>
    waitFor(condition, { timeoutMs: 60_000, what });
  const logged = (text: string) => cutOff.log.filter((line) => line.includes(text)).length;
  let pings: NodeJS.Timeout | undefined;
  try {
    await until(() => another.isReady, "Redis");
    await cutOff.addWorker("worker", INCARNATION, proxy.port);
    const result = cutOff.run("job");
    await started.promise;
    // The pings of another orchestrator, which reaches the worker.
    const runs = [{ jobId: "job", attempt: 1 }];
    const ping = () => another.observe("worker", INCARNATION, { status: "BUSY", runs });
    await ping();
    pings = setInterval(() => ping().catch(() => undefined), 100);
    proxy.reset();
    const waiting = async () => (await channel.checkQueue("jobs.ready.us-east-1.normal")).messageCount;
    await until(async () => (await waiting()) === 1, "the message to be returned");
    expect(logged("run out of reach")).toBe(1);
    // Its run continues, and it is not taken again while only the other orchestrator reaches the worker.
    expect(await another.find("job")).toMatchObject({ attempt: 1, workerId: "worker" });
    proxy.heal();
    await until(() => logged("attaching to a running job") === 1, "the run to be continued");
    finish.resolve();
    expect(await result).toMatchObject({ status: "SUCCESS", attempt: 1 });
  } finally {
    clearInterval(pings);
    finish.resolve();
    await model.close();
    await another.close();
    await cutOff.stop();
    site = undefined;
    await busy.stop(100);
    await proxy.stop();
  }
});
