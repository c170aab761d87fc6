import { afterEach, describe, expect, test } from "bun:test";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { RedisLeases } from "../../../../src/orchestrator/leases/redis.ts";
import { RedisJobRecords } from "../../../../src/orchestrator/records/redis.ts";
import { makeCertificates } from "../../../support/machine/certificates.ts";
import { freePort } from "../../../support/machine/free-port.ts";
import { inFullCheck } from "../../../support/machine/full-check.ts";
import { run, startProcess, type TestProcess } from "../../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../../support/machine/temp-dir.ts";
import { waitFor } from "../../../support/machine/wait-for.ts";
import {
  describeRedisServers,
  PATIENT,
  type Redis,
  type RedisServer,
  redisProgram,
  startRedis,
} from "../../../support/servers/redis.ts";
import { startRedisCluster } from "../../../support/servers/redis-cluster.ts";
import { sampleResult } from "../sample-result.ts";

const TIMEOUT_MS = 30_000;
const keyPrefix = "{blacktree}:";
const times = { leaseTtlMs: 60_000, jobMemoryMs: 60_000, settleMs: 0, timeouts: PATIENT };
const logger = pino({ level: "silent" });
const servers: TestProcess[] = [];
const folders: TempDir[] = [];

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.kill()));
  await Promise.all(folders.splice(0).map((folder) => folder.remove()));
});

async function makeFolder(): Promise<string> {
  const folder = await makeTempDir("redis");
  folders.push(folder);
  return folder.path;
}

async function startServer(
  name: RedisServer,
  ...options: readonly string[]
): Promise<{ server: TestProcess; folder: string }> {
  const folder = await makeFolder();
  const { program, launcher } = await redisProgram(name);
  const settings = ["--bind", "127.0.0.1", "--dir", folder, "--save", "", ...options];
  const server = startProcess([program, ...settings], { launcher });
  servers.push(server);
  await server.waitForLine("Ready to accept connections");
  return { server, folder };
}

async function cli(port: number, ...args: readonly string[]): Promise<string> {
  return (await run(["redis-cli", "-p", String(port), ...args])).stdout.trim();
}

const worker = {
  workerId: "w1",
  incarnation: "first",
  region: "us-east-1",
  address: "w1.example:6000",
  slots: 100,
  version: "0.1.0",
  capabilities: [],
  runs: [],
};

/** Every script, and the subscription. */
async function expectToWork(url: string): Promise<void> {
  const leases = new RedisLeases({ url, ...times, keyPrefix, logger });
  const records = new RedisJobRecords({ url, jobMemoryMs: 60_000, keyPrefix, timeouts: PATIENT });
  leases.start();
  records.start();
  try {
    await waitFor(() => leases.isReady && records.isReady, {
      timeoutMs: TIMEOUT_MS,
      what: "Redis to be connected",
    });
    let changes = 0;
    leases.onChange(() => changes++);
    expect(await leases.register(worker)).toBe("registered");
    expect(await leases.observe("w1", "first", { status: "FREE", runs: [] })).toEqual([]);
    const outcome = await leases.claim({ jobId: "j1", regions: ["us-east-1"] });
    if (outcome.kind !== "claimed") throw new Error("nothing was claimed");
    expect(await leases.find("j1")).toEqual(outcome.claim);
    expect(await leases.observe("w1", "first", { status: "FREE", runs: [outcome.claim] })).toEqual([]);
    expect(await leases.confirm(outcome.claim, "w1", "first")).toBe(60_000);
    expect(await leases.freeSlots()).toEqual([{ region: "us-east-1", capabilities: [], free: 99 }]);
    await leases.suspect("w1", "first");
    expect(await leases.workers()).toHaveLength(1);
    const region = { kind: "region", name: "us-east-1" } as const;
    await leases.control(region, { kind: "drained", reason: "" });
    expect([...(await leases.drainedRegions()).keys()]).toEqual(["us-east-1"]);
    await leases.control(region, undefined);
    await waitFor(
      async () => {
        await leases.release(outcome.claim);
        return changes > 0;
      },
      { timeoutMs: TIMEOUT_MS, what: "a hint" },
    );
    await leases.deregister("w1", "first");
    expect((await records.admit({ jobId: "j1", job: {}, identity: {}, acceptedAt: new Date() })).kind).toBe(
      "new",
    );
    await records.queued("j1");
    expect(
      (
        await records.append({
          job_id: "j1",
          tenant: "acme",
          attempt: 1,
          state: "QUEUED",
          at: new Date().toISOString(),
        })
      ).seq,
    ).toBe(1);
    expect((await records.finish(sampleResult("j1"), "p-1")).kind).toBe("publish");
    await records.published("j1");
    expect((await records.find("j1"))?.state).toBe("SUCCEEDED");
    const { jobs } = await records.list({ matches: () => true, limit: 10, after: undefined });
    expect(jobs.map(({ jobId }) => jobId)).toContain("j1");
  } finally {
    await leases.close();
    await records.close();
  }
}

await describeRedisServers((name) => {
  test("a Cluster is used through a list of its nodes", async () => {
    const cluster = await startRedisCluster(name);
    try {
      await expectToWork(cluster.url);
    } finally {
      await cluster.stop();
    }
  });

  inFullCheck(name !== "installed").test(
    "the master is looked up from Sentinels, also after a failover",
    async () => {
      const [first, second] = [await freePort(), await freePort()];
      const { server: master } = await startServer(name, "--port", String(first));
      await startServer(
        name,
        "--port",
        String(second),
        "--replicaof",
        "127.0.0.1",
        String(first),
        "--repl-diskless-sync-delay",
        "0",
      );
      await waitFor(
        async () => (await cli(second, "info", "replication")).includes("master_link_status:up"),
        {
          timeoutMs: TIMEOUT_MS,
          what: "the replica",
        },
      );
      const sentinelPort = await freePort();
      const { program, launcher } = await redisProgram(name);
      const config = join(await makeFolder(), "sentinel.conf");
      // Until the master is killed, a busy machine must not make it seem dead.
      await Bun.write(
        config,
        [
          `port ${sentinelPort}`,
          "bind 127.0.0.1",
          `sentinel monitor blacktree 127.0.0.1 ${first} 1`,
          "sentinel down-after-milliseconds blacktree 60000",
          "sentinel failover-timeout blacktree 2000",
          "",
        ].join("\n"),
      );
      const sentinel = startProcess([program, config, "--sentinel"], { launcher });
      servers.push(sentinel);
      await sentinel.waitForLine("+slave");
      const url = `redis://127.0.0.1:${sentinelPort}?sentinel=blacktree,redis://127.0.0.1:${await freePort()}`;
      await expectToWork(url);

      const leases = new RedisLeases({ url, ...times, keyPrefix, logger });
      leases.start();
      try {
        await waitFor(() => leases.register(worker), {
          timeoutMs: TIMEOUT_MS,
          what: "Redis to be connected",
        });
        await master.kill();
        await cli(sentinelPort, "sentinel", "set", "blacktree", "down-after-milliseconds", "500");
        await waitFor(() => leases.register(worker), { timeoutMs: TIMEOUT_MS, what: "the new master" });
        expect(await cli(second, "info", "replication")).toContain("role:master");
      } finally {
        await leases.close();
      }
    },
    120_000,
  );
});

test("TLS is used for rediss://, and an untrusted certificate is refused", async () => {
  const folder = await makeFolder();
  const certificates = await makeCertificates(folder);
  const port = await freePort();
  await startServer(
    "installed",
    ...["--port", "0", "--tls-port", String(port), "--tls-auth-clients", "no"],
    ...["--tls-cert-file", certificates.server.certPath, "--tls-key-file", certificates.server.keyPath],
    ...["--tls-ca-cert-file", certificates.caPath],
  );
  const url = `rediss://localhost:${port}`;
  const script = join(import.meta.dir, "redis-reachable.ts");
  const answers = (ca: string) =>
    run([process.execPath, script, url], { env: { NODE_EXTRA_CA_CERTS: ca } }).then(({ stdout }) =>
      stdout.trim(),
    );
  expect(await answers(certificates.caPath)).toBe("reachable");
  expect(await answers(certificates.foreign.caPath)).toBe("SELF_SIGNED_CERT_IN_CHAIN");
});

describe("a server that is reachable and not usable", () => {
  /** The log, without its levels and times, once it contains a message of one of these beginnings. */
  async function logOf(url: string, ...beginnings: readonly string[]): Promise<readonly string[]> {
    const messages: string[] = [];
    const recording = pino({}, { write: (line: string) => void messages.push(JSON.parse(line).msg) });
    const leases = new RedisLeases({ url, ...times, keyPrefix, logger: recording });
    leases.start();
    try {
      await waitFor(() => messages.some((one) => beginnings.some((beginning) => one.startsWith(beginning))), {
        timeoutMs: TIMEOUT_MS,
        what: `a message about ${url}`,
      });
      expect(leases.isReady).toBe(messages[0]?.startsWith("connected") ?? false);
      return messages;
    } finally {
      await leases.close();
    }
  }

  async function start(...options: readonly string[]): Promise<string> {
    const port = await freePort();
    await startServer("installed", "--port", String(port), ...options);
    return `127.0.0.1:${port}`;
  }

  const unusable = (address: string, problem: string) =>
    `Redis at redis://${address} is not usable: ${problem}; trying again`;

  test("a read-only replica is named, with its primary", async () => {
    const address = await start("--replicaof", "127.0.0.1", "1");
    expect(await logOf(`redis://${address}`, "Redis at")).toEqual([
      unusable(
        address,
        "it is a read-only replica of 127.0.0.1:1: name the primary in REDIS_URL, or Sentinels",
      ),
    ]);
  });

  test("a node of a Cluster that is reached by one URL is named, with the format of REDIS_URL", async () => {
    const address = await start("--cluster-enabled", "yes");
    const [message] = await logOf(`redis://${address}`, "Redis at");
    expect(message).toContain("it is a node of a Cluster: add ?cluster to REDIS_URL");
  });

  test("a missing right is named by its command", async () => {
    const address = await start();
    const [, port = ""] = address.split(":");
    await cli(Number(port), "acl", "setuser", "limited", "on", ">p", "~*", "&*", "+@all", "-zadd", "-hset");
    const [message] = await logOf(`redis://limited:p@${address}`, "Redis at");
    expect(message).toContain("is not usable: its user has no right to HSET, ZADD with keys and channels");
  });

  test("a server without memory is not used, and one that removes keys is warned of", async () => {
    const full = await start("--maxmemory", "1");
    expect((await logOf(`redis://${full}`, "Redis at"))[0]).toContain("it refuses SET: OOM ");
    const evicting = await start("--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru");
    const [connected, warning] = await logOf(`redis://${evicting}`, "Redis at");
    expect(connected).toStartWith("connected to Redis");
    expect(warning).toContain("maxmemory-policy volatile-lru");
    expect(warning).toEndWith("set maxmemory-policy noeviction");
  });

  test("a wrong password, and another service, are each one line with the remedy", async () => {
    const address = await start("--requirepass", "secret");
    const refused = await logOf(`redis://:wrong@${address}`, "Redis is not reachable");
    expect(refused).toHaveLength(1);
    expect(refused[0]).toContain("(WRONGPASS: it refuses the user or the password of REDIS_URL");
    expect((await logOf(`redis://${address}`, "Redis is not reachable"))[0]).toContain(
      "(NOAUTH: it requires a login",
    );
    const http = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("not Redis") });
    try {
      const [message] = await logOf(`redis://127.0.0.1:${http.port}`, "Redis is not reachable");
      expect(message).toContain("another service");
    } finally {
      await http.stop(true);
    }
  });

  const outside = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ internal, family }) => !internal && family === "IPv4")?.address;

  test.skipIf(outside === undefined)(
    "protected mode is named, and the server used once it is off",
    async () => {
      const [, port = ""] = (await start("--bind", "0.0.0.0", "--protected-mode", "yes")).split(":");
      const [message] = await logOf(`redis://${outside}:${port}`, "Redis is not reachable");
      expect(message).toContain("protected mode");
      await cli(Number(port), "config", "set", "protected-mode", "no");
      await expectToWork(`redis://${outside}:${port}`);
    },
  );

  test("a server that still loads its data is used once it has loaded it", async () => {
    const port = await freePort();
    const { server, folder } = await startServer("installed", "--port", String(port));
    await cli(port, "eval", "for i = 1, 50 do redis.call('set', i, string.rep('x', 2000)) end", "0");
    await cli(port, "save");
    await server.stop();
    // Half a second, in which it answers.
    const slowly = ["--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"];
    const { program } = await redisProgram("installed");
    const data = ["--dir", folder, "--dbfilename", "dump.rdb", "--save", ""];
    const loading = startProcess([
      program,
      "--bind",
      "127.0.0.1",
      "--port",
      String(port),
      ...data,
      ...slowly,
    ]);
    servers.push(loading);
    await expectToWork(`redis://127.0.0.1:${port}`);
    await loading.waitForLine("DB loaded from disk");
  });
});

test("the rights that docs/many-machines.md lists are enough", async () => {
  const docs = await Bun.file(join(import.meta.dir, "../../../../docs/many-machines.md")).text();
  const rights = /^ACL SETUSER blacktree (.*)$/m.exec(docs)?.[1]?.split(" ") ?? [];
  expect(rights).not.toBeEmpty();
  const port = await freePort();
  await startServer("installed", "--port", String(port));
  await cli(port, "acl", "setuser", "blacktree", ...rights);
  await expectToWork(`redis://blacktree:password@127.0.0.1:${port}/1`);
  // Nothing was refused, also not what is only logged.
  expect(await cli(port, "acl", "log")).toBe("");
});

describe("a server with 4 databases", () => {
  const logLines: string[] = [];
  const recording = pino({ level: "info" }, { write: (line: string) => void logLines.push(line) });
  const register = (leases: RedisLeases) => leases.register(worker).catch(() => undefined);
  let server: Redis;
  let leases: RedisLeases;

  async function start(database: number): Promise<void> {
    logLines.length = 0;
    server = await startRedis({ databases: 4 });
    leases = new RedisLeases({
      url: `${server.url}/${database}`,
      ...times,
      keyPrefix,
      logger: recording,
    });
    leases.start();
  }

  afterEach(async () => {
    await leases.close();
    await server.stop();
  });

  const failedSelects = async () =>
    Number(/cmdstat_select:.*failed_calls=(\d+)/.exec(await server.cli("info", "commandstats"))?.[1] ?? 0);

  test("a database that does not exist is reported, and database 0 stays empty", async () => {
    await start(99);
    let isReady = false;
    await waitFor(
      async () => {
        await register(leases);
        isReady ||= leases.isReady;
        return (await failedSelects()) > 5;
      },
      { timeoutMs: TIMEOUT_MS, intervalMs: 0, what: "several attempts to connect" },
    );
    expect(isReady).toBeFalse();
    expect(await server.cli("info", "keyspace")).toBe("# Keyspace");
    expect(await server.cli("info", "commandstats")).not.toContain("cmdstat_eval");
    const messages = new Set(logLines.map((line) => JSON.parse(line).msg));
    expect([...messages]).toEqual([
      `Redis at ${server.url}/99 is not usable: database 99 does not exist on this server. ` +
        'Set REDIS_URL to an existing database, or raise "databases" in redis.conf; trying again',
    ]);
  });

  test("an existing database is used, also after lost connections", async () => {
    await start(3);
    for (let round = 0; round < 5; round++) {
      await waitFor(() => register(leases), { timeoutMs: TIMEOUT_MS, what: "Redis to be connected" });
      const registering = Array.from({ length: 50 }, () => register(leases));
      await server.cli("client", "kill", "type", "normal", "skipme", "yes");
      await Promise.all(registering);
    }
    expect(await server.cli("info", "keyspace")).toMatch(/^# Keyspace\s+db3:keys=\d+\S*$/);
  });

  test("a database that is added later is used then", async () => {
    await start(4);
    await waitFor(() => logLines.some((line) => line.includes("is not usable")), {
      timeoutMs: TIMEOUT_MS,
      what: "the missing database to be logged",
    });
    await server.restart({ databases: 5 });
    await waitFor(() => register(leases), { timeoutMs: TIMEOUT_MS, what: "Redis to be connected" });
    expect(await server.cli("info", "keyspace")).toMatch(/^# Keyspace\s+db4:keys=\d+\S*$/);
  });
});
