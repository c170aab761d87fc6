import { afterAll, beforeAll, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { announceAddress } from "../../../../src/orchestrator/logs/announcement.ts";
import { RecordsUnavailable } from "../../../../src/orchestrator/records/job-records.ts";
import { COPY_TTL_MS } from "../../../../src/orchestrator/records/log-places.ts";
import { RedisJobRecords } from "../../../../src/orchestrator/records/redis.ts";
import { RedisLogPlaces } from "../../../../src/orchestrator/records/redis-log-places.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { PATIENT, type Redis, startRedis } from "../../../support/servers/redis.ts";
import { ageRedis } from "../redis/age-redis.ts";
import { describeLogPlacesContract, MEMORY_MS } from "./log-places-contract.ts";

const RUN = { tenant: "acme", jobId: "job", attempt: 1 };
let server: Redis;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

async function openPlaces(keyPrefix: string, memoryMs = 600_000): Promise<RedisLogPlaces> {
  const places = new RedisLogPlaces({ url: server.url, keyPrefix, memoryMs, timeouts: PATIENT });
  places.start();
  const isReady = () =>
    places.find("job").then(
      () => true,
      () => false,
    );
  await waitFor(isReady, { timeoutMs: 30_000, what: "Redis to be connected" });
  return places;
}

describeLogPlacesContract("Redis", async () => {
  const keyPrefix = `{${randomUUID()}}:`;
  const records = new RedisJobRecords({
    url: server.url,
    keyPrefix,
    jobMemoryMs: MEMORY_MS / 2,
    timeouts: PATIENT,
  });
  records.start();
  await waitFor(() => records.isReady, { timeoutMs: 30_000, what: "Redis to be connected" });
  const opened: { close(): Promise<void> }[] = [records];
  return {
    records,
    async open(memoryMs) {
      const places = await openPlaces(keyPrefix, memoryMs);
      opened.push(places);
      return places;
    },
    advance: (ms) => ageRedis(server.url, keyPrefix, ms),
    async remove() {
      await Promise.all(opened.map((each) => each.close()));
    },
  };
});

test("Redis: one orchestrator at a time copies a log, until it stops to renew that; a job has one key", async () => {
  const keyPrefix = `{${randomUUID()}}:`;
  const places = await openPlaces(keyPrefix);
  expect(await places.claim(RUN, "one")).toBe("granted");
  expect(await places.claim(RUN, "other")).toBe("taken");
  expect(await places.claim(RUN, "one")).toBe("granted");
  await server.cli("hset", `${keyPrefix}log:job`, "1:copy", `${Date.now() - COPY_TTL_MS} one`);
  expect(await places.claim(RUN, "other")).toBe("granted");
  expect(await places.claim(RUN, "one")).toBe("taken");
  await places.note(RUN, { kind: "store", id: "one" });
  expect(await server.cli("keys", `${keyPrefix}*`)).toBe(`${keyPrefix}log:job`);
  expect(await server.cli("hkeys", `${keyPrefix}log:job`)).toBe("1");
  await places.close();
});

test("Redis: the address of an orchestrator is known while the orchestrator announces it", async () => {
  const keyPrefix = `{${randomUUID()}}:`;
  const places = await openPlaces(keyPrefix);
  await places.announce("one", "10.0.0.1:5051", 30_000);
  expect(await places.addressOf("one")).toBe("10.0.0.1:5051");
  expect(await places.addressOf("other")).toBeUndefined();
  await ageRedis(server.url, keyPrefix, 30_000);
  expect(await places.addressOf("one")).toBeUndefined();
  const stopping = new AbortController();
  const announced = announceAddress(places, "one", "10.0.0.1:5051", stopping.signal);
  const isKnown = async () => (await places.addressOf("one")) === "10.0.0.1:5051";
  await waitFor(isKnown, { timeoutMs: 30_000, what: "the announcement" });
  stopping.abort(new Error("the orchestrator stops"));
  await announced;
  expect(await places.addressOf("one")).toBeUndefined();
  await places.close();
  await expect(places.find("job")).rejects.toBeInstanceOf(RecordsUnavailable);
});
