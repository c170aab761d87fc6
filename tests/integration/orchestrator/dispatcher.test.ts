import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { connect } from "amqplib";
import pino from "pino";
import { loadOrchestratorSettings } from "../../../src/orchestrator/config.ts";
import { RedisLeases } from "../../../src/orchestrator/leases/redis.ts";
import { startOrchestrator } from "../../../src/orchestrator/orchestrator.ts";
import { RabbitMqQueue } from "../../../src/orchestrator/queue/rabbitmq/queue.ts";
import { RedisJobRecords } from "../../../src/orchestrator/records/redis.ts";
import { fullCheckVariable } from "../../support/machine/full-check.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { INCARNATION, serveWorker, successfulEnd } from "./workers/worker-service.ts";

setDefaultTimeout(300_000);

const JOBS = process.env[fullCheckVariable] === undefined ? 300 : 2000;

let rabbitmq: RabbitMqServer;
let redis: Redis;

beforeAll(async () => {
  [rabbitmq, redis] = await Promise.all([borrowRabbitMq(), startRedis()]);
});
afterAll(async () => {
  await Promise.all([rabbitmq?.stop(), redis?.stop()]);
});

test("dispatcher: on an idle fleet no job waits for the poll", async () => {
  const polled: string[] = [];
  const write = (line: string) => {
    if (line.includes("job found by polling")) polled.push(line);
  };
  const logger = pino({ level: "info" }, { write });
  const { values: settings } = loadOrchestratorSettings({
    flags: {},
    environment: { RABBITMQ_URL: rabbitmq.url, REDIS_URL: redis.url, BLACKTREE_ADMIN_LISTEN: "127.0.0.1:0" },
  });
  const { leaseTtlMs, jobMemoryMs } = settings;
  const jobQueue = `${randomUUID()}.build`;
  const resultQueue = `${randomUUID()}.results`;
  const queue = new RabbitMqQueue({ urls: [rabbitmq.url], jobQueue, resultQueue, logger });
  const leases = new RedisLeases({ url: redis.url, leaseTtlMs, jobMemoryMs, settleMs: 0, logger });
  const worker = await serveWorker(async () => successfulEnd(), {
    keptBytes: 1000,
    tail: { lines: 10, bytes: 1000 },
  });
  const orchestrator = await startOrchestrator({
    queue,
    leases,
    records: new RedisJobRecords({ url: redis.url, jobMemoryMs, logger }),
    names: { queue: "rabbitmq", leases: "redis" },
    settings,
    grpcListen: { host: "127.0.0.1", port: 0 },
    tls: undefined,
    logger,
  });
  const model = await connect(rabbitmq.url);
  try {
    await waitFor(() => queue.isReady && leases.isReady, {
      timeoutMs: 60_000,
      what: "the orchestrator to be ready",
    });
    const channel = await model.createChannel();
    const results: ((jobId: string) => void)[] = [];
    await channel.consume(
      resultQueue,
      (message) => results.shift()?.(String(message?.properties.messageId)),
      { noAck: true },
    );
    await leases.register({
      workerId: "worker",
      incarnation: INCARNATION,
      region: "us-east-1",
      address: `127.0.0.1:${worker.port}`,
      slots: 1,
      version: "1",
      capabilities: [],
      runs: [],
    });
    for (let count = 1; count <= JOBS; count += 1) {
      const jobId = `job-${count}`;
      const ended = new Promise<string>((resolve) => results.push(resolve));
      const message = {
        repo_url: "owner/name",
        branch: "main",
        deployment_version: "v1",
        aws_account: "123456789012",
        ecr_repo: "images",
        region: "us-east-1",
      };
      channel.sendToQueue(jobQueue, Buffer.from(JSON.stringify(message)), { messageId: jobId });
      expect(await ended).toBe(jobId);
    }
  } finally {
    await orchestrator.stop();
    await model.close();
    await worker.stop(100);
  }
  expect(polled).toEqual([]);
});
