import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { fullCheckVariable } from "../../support/machine/full-check.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { startOrchestratorSite } from "./orchestrator-site.ts";
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
  const site = await startOrchestratorSite({ rabbitMqUrl: rabbitmq.url, redisUrl: redis.url });
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
  expect(site.log.filter((line) => line.includes("job found by polling"))).toEqual([]);
});
