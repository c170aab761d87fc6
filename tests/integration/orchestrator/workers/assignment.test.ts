import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { status } from "@grpc/grpc-js";
import pino from "pino";
import { RedisLeases } from "../../../../src/orchestrator/leases/redis.ts";
import { RunState } from "../../../../src/shared/rpc/generated/blacktree/v1/run.ts";
import {
  type JobEvent,
  type JobResponse,
  WorkerServiceService,
  WorkerStatus,
} from "../../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import { toJobResponse } from "../../../../src/shared/rpc/outcome.ts";
import { type RpcServer, serveRpc, streamHandler, unaryHandler } from "../../../../src/shared/rpc/server.ts";
import { RpcError } from "../../../../src/shared/rpc/status.ts";
import { apiRequest } from "../../../support/blacktree/admin-api.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../../support/servers/rabbitmq.ts";
import { PATIENT, type Redis, startRedis } from "../../../support/servers/redis.ts";
import { startTcpProxy } from "../../../support/servers/tcp-proxy.ts";
import { type OrchestratorSite, startOrchestratorSite } from "../orchestrator-site.ts";
import { INCARNATION, serveWorker, successfulEnd } from "./worker-service.ts";

const identity = { workerId: "broken", incarnation: "this-start" };

let rabbitmq: RabbitMqServer;
let redis: Redis;
let site: OrchestratorSite | undefined;
let worker: RpcServer | undefined;

beforeAll(async () => {
  [rabbitmq, redis] = await Promise.all([borrowRabbitMq(), startRedis()]);
});
afterEach(async () => {
  await site?.stop();
  site = undefined;
  await worker?.stop(100);
  worker = undefined;
});
afterAll(async () => {
  await Promise.all([rabbitmq?.stop(), redis?.stop()]);
});

/** A worker that answers pings, and these calls. */
async function serveFakeWorker({
  runJob,
  watchJob,
}: {
  runJob(): Promise<JobResponse>;
  watchJob?(): AsyncIterable<Partial<JobEvent>>;
}): Promise<RpcServer> {
  const logger = pino({ level: "silent" });
  const notServed = new RpcError(status.UNIMPLEMENTED, "not served");
  const refused = unaryHandler(logger, () => Promise.reject(notServed));
  const implementation = {
    runJob: unaryHandler(logger, runJob),
    ping: unaryHandler(logger, async () => ({
      ...identity,
      status: WorkerStatus.WORKER_STATUS_FREE,
      runs: [],
      unawaitedJobIds: [],
      replacedRuns: [],
      refusal: "",
    })),
    watchJob: streamHandler(logger, () => {
      if (!watchJob) throw notServed;
      return watchJob();
    }),
    cancelJob: refused,
    ackResult: refused,
  };
  const service = { name: "blacktree.v1.WorkerService", definition: WorkerServiceService, implementation };
  return serveRpc([service], { host: "127.0.0.1", port: 0 }, undefined);
}

for (const code of [status.INTERNAL, status.UNIMPLEMENTED] as const) {
  inFullCheck(code !== status.INTERNAL).test(
    `assignment: RunJob that ends with ${status[code]} is a failed attempt under the retry policy`,
    async () => {
      let calls = 0;
      worker = await serveFakeWorker({
        runJob() {
          calls += 1;
          return Promise.reject(new RpcError(code, "the worker is broken"));
        },
      });
      site = await startOrchestratorSite(
        { rabbitMqUrl: rabbitmq.url, redisUrl: redis.url },
        // The next attempt begins a lease time after the end of this one.
        { BLACKTREE_MAX_ATTEMPTS: "2", BLACKTREE_LEASE_TTL: "10s" },
      );
      await site.addWorker(identity.workerId, identity.incarnation, worker.port);
      expect(await site.run(`job-${status[code]}`)).toMatchObject({
        status: "FAILED",
        attempt: 2,
        error: {
          code: "INTERNAL",
          step: "dispatch",
          retryable: true,
          message: `worker broken answered RunJob with ${status[code]}: the worker is broken`,
        },
      });
      expect(calls).toBe(2);
    },
  );
}

const SLOWLY_MS = 3_000;

test("assignment: the last states of a run are published although a busy machine delays them", async () => {
  const [answered, ended] = [Promise.withResolvers<void>(), new Date()];
  const timingsMs = { clone: 0, build: 0, auth: 0, push: 0, total: 0 };
  const log = { bytes: 0, lines: 0, sha256: "", truncated: false };
  worker = await serveFakeWorker({
    async runJob() {
      answered.resolve();
      return toJobResponse({
        status: "SUCCESS",
        logs: [],
        log,
        timingsMs,
        startedAt: ended,
        finishedAt: ended,
      });
    },
    async *watchJob() {
      yield { seq: 1, state: RunState.RUN_STATE_CLONING };
      await answered.promise;
      // The delay itself is what is imitated.
      await Bun.sleep(SLOWLY_MS);
      yield { seq: 2, state: RunState.RUN_STATE_PUSHING };
    },
  });
  site = await startOrchestratorSite({ rabbitMqUrl: rabbitmq.url, redisUrl: redis.url });
  await site.addWorker(identity.workerId, identity.incarnation, worker.port);
  expect(await site.run("delayed")).toMatchObject({ status: "SUCCESS" });
  const shown = await (await apiRequest(site.adminUrl, "/api/v1/jobs/delayed")).json();
  const { events } = shown as { events: { state: string }[] };
  expect(events.map(({ state }) => state).slice(0, 4)).toEqual(["QUEUED", "ASSIGNED", "CLONING", "PUSHING"]);
});

test("assignment: a call that never reaches the worker costs no attempt: the job runs on another worker, as attempt 1", async () => {
  const logLimits = { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } };
  const [near, far] = await Promise.all(
    ["near", "far"].map((workerId) => serveWorker(async () => successfulEnd(), logLimits, { workerId })),
  );
  if (!near || !far) throw new Error("no worker");
  const proxy = await startTcpProxy(far);
  try {
    site = await startOrchestratorSite(
      { rabbitMqUrl: rabbitmq.url, redisUrl: redis.url },
      // No ping round reports the loss before the call.
      { BLACKTREE_MAX_ATTEMPTS: "1", BLACKTREE_PING_INTERVAL: "60s", BLACKTREE_LEASE_TTL: "5m" },
    );
    const { log } = site;
    await site.addWorker("far", INCARNATION, proxy.port);
    expect(await site.run("before")).toMatchObject({ worker_id: "far", attempt: 1 });
    proxy.reset();
    const result = site.run("unsent");
    await waitFor(() => log.some((line) => line.includes("worker not reachable")), {
      timeoutMs: 60_000,
      what: "the call to fail",
    });
    await site.addWorker("near", INCARNATION, near.port);
    expect(await result).toMatchObject({ status: "SUCCESS", worker_id: "near", attempt: 1 });
    // Not again on the worker that this orchestrator does not reach.
    expect(log.filter((line) => line.includes("worker not reachable"))).toHaveLength(1);
  } finally {
    await proxy.stop();
    await Promise.all([near.stop(100), far.stop(100)]);
  }
});

test("assignment: a run is not lost before the confirmation that it got before another orchestrator fenced it ends", async () => {
  const [started, finish] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const slow = await serveWorker(
    async () => {
      started.resolve();
      await finish.promise;
      return successfulEnd();
    },
    { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } },
  );
  const leases = new RedisLeases({
    url: redis.url,
    keyPrefix: "{blacktree}:",
    leaseTtlMs: 5_000,
    jobMemoryMs: 60_000,
    settleMs: 0,
    timeouts: PATIENT,
    logger: pino({ level: "silent" }),
  });
  try {
    site = await startOrchestratorSite(
      { rabbitMqUrl: rabbitmq.url, redisUrl: redis.url },
      // Nearly a lease time is left whenever the fence is closed.
      { BLACKTREE_MAX_ATTEMPTS: "1", BLACKTREE_LEASE_TTL: "5s", BLACKTREE_PING_INTERVAL: "500ms" },
    );
    leases.start();
    await waitFor(() => leases.isReady, { timeoutMs: 60_000, what: "Redis" });
    await site.addWorker("worker", INCARNATION, slow.port);
    const result = site.run("fenced");
    await started.promise;
    const claim = await leases.find("fenced");
    if (!claim) throw new Error("no claim");
    // Before the call: its answer may be late.
    const fencingAtMs = performance.now();
    const fence = await leases.fence(claim, { evenIfAlive: true });
    if (fence.kind !== "fenced") throw new Error("not fenced");
    expect(fence.confirmedForMs).toBeGreaterThan(1_000);
    expect(await result).toMatchObject({ status: "FAILED", error: { code: "WORKER_LOST" } });
    expect(performance.now() - fencingAtMs).toBeGreaterThan(fence.confirmedForMs - 100);
  } finally {
    finish.resolve();
    await leases.close();
    await slow.stop(100);
  }
});
