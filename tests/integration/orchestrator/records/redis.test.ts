import { afterAll, beforeAll, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import pino from "pino";
import { type JobRecords, RecordsUnavailable } from "../../../../src/orchestrator/records/job-records.ts";
import { RedisJobRecords } from "../../../../src/orchestrator/records/redis.ts";
import { type Redis, startRedis } from "../../../support/redis.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { sampleResult } from "../sample-result.ts";
import { describeJobRecordsContract } from "./job-records-contract.ts";

const logger = pino({ level: "silent" });
let server: Redis;

beforeAll(async () => {
  server = await startRedis();
});

afterAll(() => server.stop());

async function openRecords(url: string, jobMemoryMs: number, keyPrefix?: string): Promise<JobRecords> {
  const records = new RedisJobRecords({ url, jobMemoryMs, keyPrefix, logger });
  records.start();
  await waitFor(() => records.isReady, { timeoutMs: 10_000, what: "Redis to be connected" });
  return records;
}

describeJobRecordsContract("Redis", async (jobMemoryMs) => {
  const keyPrefix = `{${randomUUID()}}:`;
  const opened: JobRecords[] = [];
  return {
    async open() {
      const records = await openRecords(server.url, jobMemoryMs, keyPrefix);
      opened.push(records);
      return records;
    },
    async remove() {
      await Promise.all(opened.map((records) => records.close()));
    },
  };
});

test("Redis: every key of a record ends by itself", async () => {
  const keyPrefix = `{${randomUUID()}}:`;
  const records = await openRecords(server.url, 60_000, keyPrefix);
  await records.admit({ jobId: "active", job: {}, acceptedAt: new Date(), replyTo: "answers" });
  await records.queued("stub");
  for (const jobId of ["active", "lost", "done"]) {
    await records.append({ job_id: jobId, attempt: 1, state: "BUILDING", at: new Date().toISOString() });
  }
  await records.finish(sampleResult("done"), "p-1");
  await records.append({ job_id: "done", attempt: 1, state: "SUCCEEDED", at: new Date().toISOString() });
  const keys = (await server.cli("--scan", "--pattern", `${keyPrefix}*`)).split("\n");
  expect(keys).toHaveLength(7);
  for (const key of keys) {
    const ttlMs = Number(await server.cli("pttl", key));
    if (key.endsWith(":done")) expect(ttlMs).toBeWithin(1, 60_001);
    else expect(ttlMs).toBeGreaterThan(6 * 24 * 60 * 60 * 1000);
  }
  await records.close();
});

test("Redis: a killed server fails every call quickly, and an emptied one is used again", async () => {
  const own = await startRedis();
  const records = await openRecords(own.url, 60_000);
  try {
    await own.kill();
    await waitFor(() => !records.isReady, { timeoutMs: 10_000, what: "the loss to be noticed" });
    await expect(records.finish(sampleResult("j1"), "p-1")).rejects.toBeInstanceOf(RecordsUnavailable);
    await own.start();
    await waitFor(() => records.isReady, { timeoutMs: 15_000, what: "Redis to be back" });
    expect((await records.finish(sampleResult("j1"), "p-1")).kind).toBe("publish");
    own.pause();
    const startedAt = performance.now();
    await expect(records.find("j1")).rejects.toBeInstanceOf(RecordsUnavailable);
    expect(performance.now() - startedAt).toBeLessThan(2_500);
  } finally {
    own.resume();
    await records.close();
    await own.stop();
  }
});
