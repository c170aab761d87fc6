import { expect, test } from "bun:test";
import pino from "pino";
import { connectInBackground, createRedisClient } from "../../../../src/orchestrator/redis/client.ts";
import { RedisScript } from "../../../../src/orchestrator/redis/script.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import { PATIENT, startRedis } from "../../../support/servers/redis.ts";
import { startTcpProxy } from "../../../support/servers/tcp-proxy.ts";

test("scripts: the first calls on a server take effect in their order, whenever their answers arrive", async () => {
  const redis = await startRedis();
  let answers = 0;
  const proxy = await startTcpProxy(redis, { onAnswer: () => (answers += 1) });
  const url = `redis://127.0.0.1:${proxy.port}`;
  const client = createRedisClient({
    url,
    logger: pino({ level: "silent" }),
    keyPrefix: "",
    // None of the held answers may count as missing.
    timeouts: PATIENT,
  });
  try {
    connectInBackground(client);
    await new Promise((resolve) => client.once("usable", resolve));
    const script = new RedisScript('return redis.call("RPUSH", KEYS[1], ARGV[1])');
    const calls: Promise<unknown>[] = [];
    const call = (argument: string) => calls.push(script.run(client, "order", [argument]));
    const answered = (count: number) =>
      waitFor(() => answers >= count, { timeoutMs: 30_000, what: `${count} answers` });
    proxy.cut("answers");
    answers = 0;
    call("first");
    await answered(1);
    call("second");
    // The first answer passes, and no other one yet.
    proxy.heal();
    proxy.cut("answers");
    await answered(2);
    call("third");
    await answered(3);
    proxy.heal();
    await Promise.all(calls);
    expect(await client.lrange("order", 0, -1)).toEqual(["first", "second", "third"]);
  } finally {
    client.disconnect();
    await proxy.stop();
    await redis.stop();
  }
});
