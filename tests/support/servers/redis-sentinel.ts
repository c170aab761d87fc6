import { join } from "node:path";
import { freePort } from "../machine/free-port.ts";
import { run, startProcess } from "../machine/processes.ts";
import { makeTempDir } from "../machine/temp-dir.ts";
import { waitFor } from "../machine/wait-for.ts";
import { type Redis, startRedis } from "./redis.ts";

/** A primary, its replica, and a Sentinel that can promote the replica. */
export interface RedisWithSentinel {
  /** A value for `REDIS_URL`; a Sentinel that does not answer is first in the list. */
  readonly url: string;
  readonly primary: Redis;
  /** Has Sentinel promote the replica; resolves when it is the primary. */
  promote(): Promise<void>;
  stop(): Promise<void>;
}

const primaryName = "blacktree";
/** Sentinel does nothing for 30 s after it has noticed that it was not executed for 2 s. */
const promotionTimeoutMs = 120_000;

async function startSentinel(primaryPort: number) {
  const dir = await makeTempDir("sentinel");
  const port = await freePort();
  const config = join(dir.path, "sentinel.conf");
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `sentinel monitor ${primaryName} 127.0.0.1 ${primaryPort} 1`,
    // Sentinel promotes the replica on request only: a primary that a busy machine does not execute is not dead.
    `sentinel down-after-milliseconds ${primaryName} 600000`,
    `sentinel failover-timeout ${primaryName} ${promotionTimeoutMs}`,
  ];
  await Bun.write(config, `${lines.join("\n")}\n`);
  const server = startProcess(["redis-server", config, "--sentinel"]);
  const stop = async () => {
    await server.stop(3_000);
    await dir.remove();
  };
  try {
    await server.waitForLine("+slave");
  } catch (error) {
    await stop();
    throw error;
  }
  return { port, stop };
}

export async function startRedisWithSentinel(): Promise<RedisWithSentinel> {
  const primary = await startRedis();
  const replica = await startRedis({ replicaOf: primary.port });
  const untilReplicaSays = (text: string, what: string) =>
    waitFor(async () => (await replica.cli("info", "replication")).includes(text), {
      // After a pause of the machine, Sentinel promotes nothing for 30 s.
      timeoutMs: 90_000,
      what,
    });
  await untilReplicaSays("master_link_status:up", "the replica to have copied the primary");
  const sentinel = await startSentinel(primary.port);
  const away = await freePort();
  return {
    url: `redis://127.0.0.1:${away}?sentinel=${primaryName},redis://127.0.0.1:${sentinel.port}`,
    primary,
    async promote() {
      await waitFor(
        async () => {
          if ((await replica.cli("info", "replication")).includes("role:master")) return true;
          // Refused while a promotion is in progress, and until the replica has answered a ping of Sentinel.
          await run(["redis-cli", "-p", `${sentinel.port}`, "sentinel", "failover", primaryName]);
          return false;
        },
        { timeoutMs: promotionTimeoutMs, what: "the replica to be promoted", intervalMs: 100 },
      );
    },
    async stop() {
      await sentinel.stop();
      await Promise.all([primary.stop(), replica.stop()]);
    },
  };
}
