/** A result that somebody else has written to Redis. */
import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { waitFor } from "../../support/machine/wait-for.ts";
import { borrowRabbitMq } from "../../support/servers/pool.ts";
import type { RabbitMqServer } from "../../support/servers/rabbitmq.ts";
import { type Redis, startRedis } from "../../support/servers/redis.ts";
import { type OrchestratorSite, startOrchestratorSite } from "./orchestrator-site.ts";
import { sampleResult } from "./sample-result.ts";
import { INCARNATION, serveWorker, successfulEnd } from "./workers/worker-service.ts";

const JOB = "job-1";
const OF_RUN = `sha256:${"a".repeat(64)}`;
const FORGED = `sha256:${"f".repeat(64)}`;

let rabbitmq: RabbitMqServer;
let redis: Redis;
let site: OrchestratorSite;

beforeAll(async () => {
  [rabbitmq, redis] = await Promise.all([borrowRabbitMq(), startRedis()]);
});
afterEach(() => site?.stop());
afterAll(() => Promise.all([rabbitmq?.stop(), redis?.stop()]));

test("an image that was recorded for an attempt counts only if it is that of its run", async () => {
  const running = Promise.withResolvers<void>();
  const mayEnd = Promise.withResolvers<void>();
  const run = async () => {
    running.resolve();
    await mayEnd.promise;
    return { ...successfulEnd(), imageDigest: OF_RUN };
  };
  const worker = await serveWorker(
    run,
    { keptBytes: 1000, tail: { lines: 10, bytes: 1000 } },
    { workerId: "worker" },
  );
  try {
    site = await startOrchestratorSite({ rabbitMqUrl: rabbitmq.url, redisUrl: redis.url });
    await site.addWorker("worker", INCARNATION, worker.port);
    const result = site.nextResult();
    site.submit(JOB);
    await running.promise;
    const forged = sampleResult(JOB, { image_digest: FORGED });
    await redis.cli("hset", `{blacktree}:job:${JOB}`, "result", JSON.stringify(forged));
    mayEnd.resolve();
    expect(await result).toMatchObject({
      job_id: JOB,
      status: "SUCCESS",
      attempt: 1,
      image_digest: OF_RUN,
    });
    const logged = () => site.log.some((line) => line.includes("names another image than the job's run"));
    await waitFor(logged, { timeoutMs: 60_000, what: "the error in the log" });
  } finally {
    mayEnd.resolve();
    await worker.stop(100);
  }
});
