import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "amqplib";
import { REDIS_TIMEOUTS } from "../../../src/orchestrator/redis/client.ts";
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

test("availability: without Redis, jobs that wait return to their queues until it answers; a running job keeps its message", async () => {
  const toRedis = await startTcpProxy(redis);
  const model = await connect(rabbitmq.url);
  const channel = await model.createChannel();
  const finish = Promise.withResolvers<void>();
  const worker = await serveWorker(
    async () => {
      await finish.promise;
      return successfulEnd();
    },
    { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } },
    { slots: 2 },
  );
  const site = await startOrchestratorSite({
    rabbitMqUrl: rabbitmq.url,
    redisUrl: `redis://${toRedis.address}`,
    redisTimeouts: REDIS_TIMEOUTS,
  });
  const logged = (text: string) => site.log.filter((line) => line.includes(text)).length;
  /** A message that returns to its queue while it is accepted is accepted again. */
  const queuedJobs = () =>
    new Set(site.log.filter((line) => line.includes('"job queued"')).map((line) => JSON.parse(line).job_id))
      .size;
  const depth = async (queue: string) => (await channel.checkQueue(queue)).messageCount;
  const until = (condition: () => boolean | Promise<boolean>, what: string) =>
    waitFor(condition, { timeoutMs: 60_000, what });
  const ready = "jobs.ready.us-east-1.normal";
  try {
    await site.addWorker("worker", INCARNATION, worker.port, { slots: 2 });
    const running = site.run("running");
    await until(() => logged("job assigned") === 1, "the running job");
    // The worker has a free slot, but cannot build this job.
    site.submit("held", { secrets: { A: "b" } });
    await until(async () => queuedJobs() === 2 && (await depth(ready)) === 0, "the held job");

    toRedis.cut();
    const submitted = 70;
    for (let count = 1; count <= submitted; count += 1) site.submit(`job-${count}`);
    await until(async () => (await depth(ready)) === 1, "the held job to be returned");
    await until(async () => (await depth(site.jobQueue)) === submitted, "all submissions to be returned");
    // Enough exchanges with the broker for a message to be taken again.
    for (let count = 0; count < 50; count += 1) {
      expect([await depth(ready), await depth(site.jobQueue)]).toEqual([1, submitted]);
    }
    expect(logged("job records and leases unavailable;")).toBe(1);
    finish.resolve();
    expect(await running).toMatchObject({ job_id: "running", status: "SUCCESS", attempt: 1 });

    toRedis.heal();
    await until(() => logged("job records and leases available again") === 1, "the end of the fault");
    await until(() => queuedJobs() === 2 + submitted, "the submissions to be accepted");
    await until(async () => (await depth(ready)) === 0, "all jobs to be taken");
  } finally {
    finish.resolve();
    toRedis.heal();
    await site.stop();
    await model.close();
    await worker.stop(100);
    await toRedis.stop();
  }
});
