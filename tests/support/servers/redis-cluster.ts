import { freePort } from "../machine/free-port.ts";
import { run, startProcess, type TestProcess } from "../machine/processes.ts";
import { makeTempDir, type TempDir } from "../machine/temp-dir.ts";
import { waitFor } from "../machine/wait-for.ts";
import { type RedisServer, redisProgram } from "./redis.ts";

/** Three masters, without replicas. */
export interface RedisCluster {
  /** A value for `REDIS_URL`. */
  readonly url: string;
  /** Begins to move the slot of this key to another node, as `redis-cli --cluster reshard` does. */
  beginMove(key: string): Promise<SlotMove>;
  stop(): Promise<void>;
}

/** Between its steps, the keys of the slot are on both nodes. */
export interface SlotMove {
  /** @returns the number of keys that were moved, at most `count` */
  moveKeys(count: number): Promise<number>;
  /** Moves the rest, and makes the other node the owner. */
  finish(): Promise<void>;
}

const HOST = "127.0.0.1";
const TIMEOUT_MS = 120_000;

export async function startRedisCluster(server: RedisServer = "installed"): Promise<RedisCluster> {
  const { program, launcher } = await redisProgram(server);
  const ports: number[] = [];
  const nodes: TestProcess[] = [];
  const folders: TempDir[] = [];

  async function startNode(): Promise<void> {
    const folder = await makeTempDir("redis");
    folders.push(folder);
    const port = await freePort();
    ports.push(port);
    const settings = [
      ...["--port", String(port), "--bind", HOST, "--dir", folder.path, "--save", ""],
      // The bus of a node listens 10,000 above its port by default, where another program may listen.
      ...["--cluster-enabled", "yes", "--cluster-port", String(await freePort())],
    ];
    const node = startProcess([program, ...settings], { launcher });
    nodes.push(node);
    await node.waitForLine("Ready to accept connections");
  }

  async function cli(port: number, ...args: readonly string[]): Promise<string> {
    return (await run(["redis-cli", "-p", String(port), ...args])).stdout.trim();
  }

  async function beginMove(key: string): Promise<SlotMove> {
    const slot = await cli(firstPort(), "cluster", "keyslot", key);
    const owner = await ownerOf(Number(slot));
    const other = ports.find((port) => port !== owner) ?? owner;
    const [ownerId, otherId] = [await cli(owner, "cluster", "myid"), await cli(other, "cluster", "myid")];
    await cli(other, "cluster", "setslot", slot, "importing", ownerId);
    await cli(owner, "cluster", "setslot", slot, "migrating", otherId);

    async function moveKeys(count: number): Promise<number> {
      const listed = await cli(owner, "cluster", "getkeysinslot", slot, String(count));
      const keys = listed.split("\n").filter(Boolean);
      if (keys.length === 0) return 0;
      const answer = await cli(owner, "migrate", HOST, String(other), "", "0", "5000", "keys", ...keys);
      // A key may have expired since it was listed.
      if (answer !== "OK" && answer !== "NOKEY") throw new Error(`the keys were not moved: ${answer}`);
      return keys.length;
    }

    async function finish(): Promise<void> {
      while ((await moveKeys(10)) > 0);
      for (const port of [other, owner, ...ports])
        await cli(port, "cluster", "setslot", slot, "node", otherId);
    }

    return { moveKeys, finish };
  }

  async function ownerOf(slot: number): Promise<number> {
    const ranges = (await cli(firstPort(), "--json", "cluster", "slots")) || "[]";
    for (const [from, to, [, port]] of JSON.parse(ranges) as [number, number, [string, number]][])
      if (from <= slot && slot <= to) return port;
    throw new Error(`no node has slot ${slot}`);
  }

  function firstPort(): number {
    const [port] = ports;
    if (port === undefined) throw new Error("the cluster has no node");
    return port;
  }

  async function stop(): Promise<void> {
    await Promise.all(nodes.map((node) => node.kill()));
    await Promise.all(folders.map((folder) => folder.remove()));
  }

  try {
    while (ports.length < 3) await startNode();
    const addresses = ports.map((port) => `${HOST}:${port}`);
    await run(["redis-cli", "--cluster", "create", ...addresses, "--cluster-yes"]);
    const isReady = async (port: number) => (await cli(port, "cluster", "info")).includes("cluster_state:ok");
    await waitFor(async () => !(await Promise.all(ports.map(isReady))).includes(false), {
      timeoutMs: TIMEOUT_MS,
      what: "the cluster",
    });
  } catch (error) {
    await stop();
    throw error;
  }
  const url = ports.map((port) => `redis://${HOST}:${port}`).join(",");
  return { url, beginMove, stop };
}
