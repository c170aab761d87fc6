import { afterAll, beforeAll, expect, test } from "bun:test";
import { credentials, status } from "@grpc/grpc-js";
import { callUnary } from "../../../src/shared/rpc/call.ts";
import { OrchestratorServiceClient } from "../../../src/shared/rpc/generated/blacktree/v1/orchestrator.ts";
import { hasStatus } from "../../../src/shared/rpc/status.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { startTcpProxy } from "../../support/servers/tcp-proxy.ts";
import { startOrchestratorSite } from "./orchestrator-site.ts";
import { INCARNATION, serveWorker, successfulEnd } from "./workers/worker-service.ts";

let rabbitmq: RabbitMqServer;
let redis: Redis;

beforeAll(async () => {
  [rabbitmq, redis] = await Promise.all([borrowRabbitMq(), startRedis()]);
});
afterAll(async () => {
  await Promise.all([rabbitmq?.stop(), redis?.stop()]);
});

test("worker manager: without Redis a lease is confirmed only while the broker confirms the delivery, and not beyond its heartbeats", async () => {
  const heartbeatSeconds = 6;
  const [toRabbitMq, toRedis] = await Promise.all([startTcpProxy(rabbitmq), startTcpProxy(redis)]);
  const rabbitMqUrl = new URL(rabbitmq.url);
  rabbitMqUrl.port = String(toRabbitMq.port);
  rabbitMqUrl.searchParams.set("heartbeat", String(heartbeatSeconds));
  const site = await startOrchestratorSite(
    { rabbitMqUrl: rabbitMqUrl.href, clientUrl: rabbitmq.url, redisUrl: `redis://${toRedis.address}` },
    { BLACKTREE_LEASE_TTL: "60s" },
  );
  const finish = Promise.withResolvers<void>();
  const worker = await serveWorker(
    async () => {
      await finish.promise;
      return successfulEnd();
    },
    { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } },
  );
  const client = new OrchestratorServiceClient(`127.0.0.1:${site.grpcPort}`, credentials.createInsecure());
  const confirm = () =>
    callUnary(
      client.confirmLease.bind(client),
      { workerId: "worker", incarnation: INCARNATION, run: { jobId: "job", attempt: 1 } },
      { deadlineMs: 30_000 },
    );
  try {
    await site.addWorker("worker", INCARNATION, worker.port);
    site.submit("job");
    await waitFor(() => site.log.some((line) => line.includes("job assigned")), {
      timeoutMs: 60_000,
      what: "the job to be assigned",
    });
    expect(await confirm()).toEqual({ granted: true, leaseRemainingMs: 60_000 });

    toRedis.reset();
    const answer = await waitFor(
      async () => {
        const { granted, leaseRemainingMs } = await confirm();
        return leaseRemainingMs < 60_000 ? { granted, leaseRemainingMs } : undefined;
      },
      { timeoutMs: 60_000, what: "Redis to be unavailable" },
    );
    expect(answer.granted).toBeTrue();
    expect(answer.leaseRemainingMs).toBeLessThanOrEqual(heartbeatSeconds * 1000);

    toRabbitMq.cut();
    const refused = await confirm().catch((error: unknown) => error);
    expect(hasStatus(refused, status.UNAVAILABLE)).toBeTrue();
  } finally {
    finish.resolve();
    toRabbitMq.heal();
    toRedis.heal();
    client.close();
    await site.stop();
    await worker.stop(100);
    await Promise.all([toRabbitMq.stop(), toRedis.stop()]);
  }
});
