import { describe } from "bun:test";
import type { RedisTimeouts } from "../../../src/orchestrator/redis/client.ts";
import { freePort } from "../machine/free-port.ts";
import { inFullCheck } from "../machine/full-check.ts";
import { run, startProcess, type TestProcess } from "../machine/processes.ts";
import { makeTempDir } from "../machine/temp-dir.ts";
import { waitFor } from "../machine/wait-for.ts";
import { debian13Launcher, missingDebian13 } from "./debian-13.ts";

/**
 * For clients of a server that a test does not freeze: on a busy machine an answer may take longer than the times of the
 * product, and a call would fail that the test expects to succeed.
 */
export const PATIENT: RedisTimeouts = { connectMs: 30_000, commandMs: 30_000, answerMs: 45_000 };

/** The installed package, or those of Debian 13. */
export type RedisServer = "installed" | "Redis 8.0" | "Valkey 8.1";

/**
 * Declares tests for each of these servers, those of Redis 8.0 for the full check; those that do not run on this machine
 * are skipped.
 */
export async function describeRedisServers(declare: (server: RedisServer) => void): Promise<void> {
  const reason = await missingDebian13();
  for (const server of ["installed", "Redis 8.0", "Valkey 8.1"] as const) {
    const isMissing = server !== "installed" && reason !== undefined;
    const name = `Redis (${server})${isMissing ? ` (skipped: ${reason})` : ""}`;
    const declareServer = isMissing ? describe.skip : inFullCheck(server === "Redis 8.0").describe;
    declareServer(name, () => declare(server));
  }
}

/** A server's program, and the launcher that it needs. */
export async function redisProgram(
  server: RedisServer,
): Promise<{ readonly program: string; readonly launcher: readonly string[] }> {
  const program = server === "Valkey 8.1" ? "valkey-server" : "redis-server";
  return { program, launcher: server === "installed" ? [] : await debian13Launcher() };
}

export interface RedisOptions {
  readonly server?: RedisServer;
  /** Keeps its data over kill() and restart(), as a server with an append-only file does. */
  persistent?: boolean;
  password?: string;
  /** Number of databases. */
  databases?: number;
  /** The port of the server that it replicates. */
  replicaOf?: number;
  /** Of its process, such as the locale. */
  env?: Readonly<Record<string, string>>;
}

export interface Redis {
  readonly url: string;
  readonly port: number;
  cli(...args: string[]): Promise<string>;
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Stops it and starts it again; it is empty afterwards unless it is persistent. */
  restart(changes?: Pick<RedisOptions, "databases">): Promise<void>;
  pause(): void;
  resume(): void;
  stop(): Promise<void>;
}

export async function startRedis(options: RedisOptions = {}): Promise<Redis> {
  const { persistent = false, password, replicaOf } = options;
  const { program, launcher } = await redisProgram(options.server ?? "installed");
  let { databases = 4096 } = options;
  const dir = await makeTempDir("redis");
  const port = await freePort();
  let server: TestProcess;

  async function cli(...args: string[]): Promise<string> {
    const { stdout } = await run(["redis-cli", "-h", "127.0.0.1", "-p", String(port), ...args], {
      env: { REDISCLI_AUTH: password },
    });
    return stdout.trimEnd();
  }

  async function start(): Promise<void> {
    const settings = [
      ...["--port", String(port), "--bind", "127.0.0.1", "--dir", dir.path],
      ...["--databases", String(databases)],
      ...["--save", "", "--appendonly", persistent ? "yes" : "no", "--appendfsync", "always"],
      ...(password ? ["--requirepass", password] : []),
      ...(replicaOf ? ["--replicaof", "127.0.0.1", String(replicaOf)] : []),
      // The first replica need not wait for others.
      ...["--repl-diskless-sync-delay", "0"],
    ];
    server = startProcess([program, ...settings], { launcher, env: options.env });
    await server.waitForLine("Ready to accept connections");
    await waitFor(async () => (await cli("ping")) === "PONG", { timeoutMs: 30_000, what: "Redis to answer" });
  }

  async function stop(): Promise<void> {
    await server.stop(3_000);
    await dir.remove();
  }

  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }

  return {
    url: password
      ? `redis://:${encodeURIComponent(password)}@127.0.0.1:${port}`
      : `redis://127.0.0.1:${port}`,
    port,
    cli,
    kill: () => server.kill(),
    start,
    async restart(changes = {}) {
      databases = changes.databases ?? databases;
      await server.stop(3_000);
      await start();
    },
    pause: () => server.pause(),
    resume: () => server.resume(),
    stop,
  };
}
