import { freePort } from "../machine/free-port.ts";
import { run, startProcess, type TestProcess } from "../machine/processes.ts";
import { makeTempDir, type TempDir } from "../machine/temp-dir.ts";
import { waitFor } from "../machine/wait-for.ts";
import { type RedisServer, redisProgram } from "./redis.ts";

export interface RedisCluster {
  /** A value for `REDIS_URL`. */
  readonly url: string;
  /** Three masters, without replicas. */
  readonly ports: readonly number[];
  cli(port: number, ...args: readonly string[]): Promise<string>;
  /** Runs `redis-cli --cluster <args>`. */
  manage(...args: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

const HOST = "127.0.0.1";
const TIMEOUT_MS = 30_000;

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

  async function manage(...args: readonly string[]): Promise<void> {
    await run(["redis-cli", "--cluster", ...args]);
  }

  async function stop(): Promise<void> {
    await Promise.all(nodes.map((node) => node.kill()));
    await Promise.all(folders.map((folder) => folder.remove()));
  }

  try {
    while (ports.length < 3) await startNode();
    await manage("create", ...ports.map((port) => `${HOST}:${port}`), "--cluster-yes");
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
  return { url, ports, cli, manage, stop };
}
