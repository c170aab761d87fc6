import { afterAll, beforeAll, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import {
  type JobPlace,
  type JobRecords,
  RecordsUnavailable,
} from "../../../../src/orchestrator/records/job-records.ts";
import { RedisJobRecords } from "../../../../src/orchestrator/records/redis.ts";
import { REDIS_TIMEOUTS } from "../../../../src/orchestrator/redis/client.ts";
import { run } from "../../../support/machine/processes.ts";
import { makeTempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { describeRedisServers, PATIENT, type Redis, startRedis } from "../../../support/servers/redis.ts";
import { ageRedis } from "../redis/age-redis.ts";
import { sampleResult } from "../sample-result.ts";
import { settlesBefore } from "../settles-before.ts";
import { describeJobRecordsContract } from "./job-records-contract.ts";

const TIMEOUT_MS = 30_000;
const CALL_LIMIT_MS = REDIS_TIMEOUTS.commandMs + 1_000;
let server: Redis;

beforeAll(async () => {
  server = await startRedis();
});

afterAll(() => server.stop());

async function openRecords(
  url: string,
  jobMemoryMs: number,
  keyPrefix: string,
  timeouts = PATIENT,
): Promise<JobRecords> {
  const records = new RedisJobRecords({ url, jobMemoryMs, keyPrefix, timeouts });
  records.start();
  await waitFor(() => records.isReady, { timeoutMs: TIMEOUT_MS, what: "Redis to be connected" });
  return records;
}

await describeRedisServers((name) => {
  let server: Redis;
  beforeAll(async () => {
    server = await startRedis({ server: name });
  });
  afterAll(() => server.stop());

  describeJobRecordsContract("records", async (jobMemoryMs) => {
    const keyPrefix = `{${randomUUID()}}:`;
    const opened: JobRecords[] = [];
    return {
      async open() {
        const records = await openRecords(server.url, jobMemoryMs, keyPrefix);
        opened.push(records);
        return records;
      },
      async forgetIdentity(jobId) {
        expect(await server.cli("hdel", `${keyPrefix}job:${jobId}`, "salt", "fingerprints")).toBe("2");
      },
      advance: (ms) => ageRedis(server.url, keyPrefix, ms),
      async remove() {
        await Promise.all(opened.map((records) => records.close()));
      },
    };
  });
});

test("Redis: jobs whose records have expired leave the list of jobs as others enter it", async () => {
  const keyPrefix = `{${randomUUID()}}:`;
  const records = await openRecords(server.url, 60_000, keyPrefix);
  const admit = (jobId: string) => records.admit({ jobId, job: {}, identity: {}, acceptedAt: new Date() });
  const listed = async () => Number(await server.cli("zcard", `${keyPrefix}jobs`));
  for (let number = 0; number < 300; number++) await admit(`old-${number}`);
  expect(await listed()).toBe(300);
  const expired = Array.from({ length: 300 }, (_, number) => `${keyPrefix}job:old-${number}`);
  expect(await server.cli("del", ...expired)).toBe("300");
  for (let number = 0; number < 300; number++) await admit(`new-${number}`);
  // Three random jobs are checked each time: practically all of the 300 have left, and the rest will.
  expect(await listed()).toBeWithin(300, 400);
  await records.close();
});

const LOCALE_SOURCE = "/usr/share/i18n/locales/en_US";

test.skipIf(!existsSync(LOCALE_SOURCE))(
  "Redis: the list of jobs misses none on a server whose locale orders ids otherwise than by bytes",
  async () => {
    const locales = await makeTempDir("locales");
    // It warns about the source, and ends with 1 then.
    await run(["localedef", "--no-archive", "-i", "en_US", "-f", "UTF-8", `${locales.path}/en_US.UTF-8`]);
    const own = await startRedis({ env: { LOCPATH: locales.path, LC_ALL: "en_US.UTF-8" } });
    const records = await openRecords(own.url, 60_000, "{blacktree}:");
    try {
      const ids = ["Web-1", "api-1", "Web-2", "api-2", "zoo", "Api-3", "b", "C"];
      for (const jobId of ids) await records.admit({ jobId, job: {}, identity: {}, acceptedAt: new Date(1) });
      expect(await own.cli("eval", "return 'a' < 'B' and 1 or 0", "0")).toBe("1");
      const seen: string[] = [];
      let after: JobPlace | undefined;
      do {
        const page = await records.list({ matches: () => true, limit: 2, after });
        seen.push(...page.jobs.map(({ jobId }) => jobId));
        after = page.next;
      } while (after && seen.length <= ids.length);
      expect(seen.toSorted()).toEqual(ids.toSorted());
    } finally {
      await records.close();
      await own.stop();
      await locales.remove();
    }
  },
);

test("Redis: one answer for the list has about 4 MB of records", async () => {
  const keyPrefix = `{${randomUUID()}}:`;
  const records = await openRecords(server.url, 60_000, keyPrefix);
  const sentBytes = async () =>
    Number(/total_net_output_bytes:(\d+)/.exec(await server.cli("info", "stats"))?.[1]);
  const job = { labels: { text: "x".repeat(1_000_000) } };
  for (let number = 0; number < 12; number++)
    await records.admit({ jobId: `j${number}`, job, identity: {}, acceptedAt: new Date(number) });
  const before = await sentBytes();
  expect((await records.list({ matches: () => true, limit: 1, after: undefined })).jobs).toHaveLength(1);
  expect((await sentBytes()) - before).toBeLessThan(6_000_000);
  await records.close();
});

test("Redis: a record contains no value of the job's identity, and no hash that another record has", async () => {
  const keyPrefix = `{${randomUUID()}}:`;
  const records = await openRecords(server.url, 60_000, keyPrefix);
  const identity = { build_args: { MODE: "debug-hush" } };
  const stored: string[] = [];
  for (const jobId of ["one", "other"]) {
    await records.admit({ jobId, job: {}, identity, acceptedAt: new Date() });
    const record = await server.cli("hgetall", `${keyPrefix}job:${jobId}`);
    expect(record).not.toContain("hush");
    stored.push(/"build_args":"([0-9a-f]{64})"/.exec(record)?.[1] ?? "");
  }
  expect(stored).not.toContain("");
  expect(new Set(stored).size).toBe(2);
  await records.close();
});

test("Redis: every key of a record expires", async () => {
  const keyPrefix = `{${randomUUID()}}:`;
  const records = await openRecords(server.url, 60_000, keyPrefix);
  await records.admit({ jobId: "active", job: {}, identity: {}, acceptedAt: new Date(), replyTo: "answers" });
  await records.queued("stub");
  for (const jobId of ["active", "lost", "done"]) {
    await records.append({
      job_id: jobId,
      tenant: "acme",
      attempt: 1,
      state: "BUILDING",
      at: new Date().toISOString(),
    });
  }
  await records.finish(sampleResult("done"), "p-1");
  await records.append({
    job_id: "done",
    tenant: "acme",
    attempt: 1,
    state: "SUCCEEDED",
    at: new Date().toISOString(),
  });
  const keys = (await server.cli("--scan", "--pattern", `${keyPrefix}*`)).split("\n");
  expect(keys).toHaveLength(8);
  for (const key of keys) {
    const ttlMs = Number(await server.cli("pttl", key));
    if (key.endsWith(":done")) expect(ttlMs).toBeWithin(1, 60_001);
    else expect(ttlMs).toBeGreaterThan(6 * 24 * 60 * 60 * 1000);
  }
  await records.close();
});

async function failureOf(call: Promise<unknown>): Promise<RecordsUnavailable> {
  const error = await call.then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(RecordsUnavailable);
  return error;
}

test("Redis: calls fail at once when the server is killed, at the command timeout when frozen; an emptied one is used", async () => {
  const own = await startRedis();
  const records = await openRecords(own.url, 60_000, "{blacktree}:", REDIS_TIMEOUTS);
  try {
    await own.kill();
    await waitFor(() => !records.isReady, { timeoutMs: TIMEOUT_MS, what: "the loss to be detected" });
    // The call failed without sending a command, so it did not have to wait.
    const refusal = await failureOf(records.finish(sampleResult("j1"), "p-1"));
    expect(refusal.message).toBe("Redis is not connected");
    expect(refusal.cause).toBeUndefined();
    await own.start();
    await waitFor(() => records.isReady, { timeoutMs: TIMEOUT_MS, what: "Redis to be reachable again" });
    const finish = () => records.finish(sampleResult("j1"), "p-1");
    const finished = await waitFor(finish, { timeoutMs: TIMEOUT_MS, what: "an answer" });
    expect(finished.kind).toBe("publish");
    own.pause();
    const call = records.find("j1");
    expect(await settlesBefore(CALL_LIMIT_MS, call)).toBeTrue();
    expect((await failureOf(call)).cause).toMatchObject({ message: "Command timed out" });
  } finally {
    own.resume();
    await records.close();
    await own.stop();
  }
});
