import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import IORedis from "ioredis";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { type Redis, startRedis } from "../../../support/servers/redis.ts";

describe("a dedicated Redis", () => {
  let redis: Redis;

  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());

  test("answers a client, and is empty after a restart", async () => {
    const client = new IORedis(redis.url);
    await client.set("a", "1");
    expect(await client.get("a")).toBe("1");
    client.disconnect();
    await redis.restart();
    expect(await redis.cli("get", "a")).toBe("");
  });

  test("refuses connections after kill, and answers again after start", async () => {
    await redis.kill();
    const client = new IORedis(redis.url, { lazyConnect: true, retryStrategy: () => null });
    client.on("error", () => undefined);
    await expect(client.connect()).rejects.toThrow();
    client.disconnect();
    await redis.start();
    expect(await redis.cli("ping")).toBe("PONG");
  });

  test("does not answer while it is paused", async () => {
    const client = new IORedis(redis.url, { commandTimeout: 100 });
    await waitFor(() => client.ping(), { timeoutMs: 60_000, what: "the first answer" });
    redis.pause();
    await expect(client.ping()).rejects.toThrow("timed out");
    redis.resume();
    expect(await redis.cli("ping")).toBe("PONG");
    client.disconnect();
  });
});

test("a persistent Redis keeps its data when it is killed, and requires its password", async () => {
  const redis = await startRedis({ persistent: true, password: "s3cret/@" });
  try {
    const client = new IORedis(redis.url);
    await client.set("a", "1");
    client.disconnect();
    await redis.kill();
    await redis.start();
    expect(await redis.cli("get", "a")).toBe("1");
    await expect(redis.cli("-a", "wrong", "get", "a")).resolves.toContain("NOAUTH");
  } finally {
    await redis.stop();
  }
});
