/**
 * Servers that take seconds to start, shared by all files of a test run: one RabbitMQ of each version, with a virtual
 * host for each file, and Docker engines, each lent to one file at a time. Redis, the registry and the git server start
 * within 40 ms and are not shared; neither is a server that a test kills, freezes or restarts.
 *
 * A separate process (pool-host.ts) runs them. The first file that borrows a server starts it, and it ends with the
 * test run.
 */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { identityOf } from "../machine/process-identity.ts";
import { tempDirPrefix } from "../machine/temp-dir.ts";
import { waitFor } from "../machine/wait-for.ts";
import {
  connectDockerEngine,
  type DockerEngine,
  type DockerEngineAccess,
  type DockerEngineName,
  type DockerStorage,
  defaultStorage,
} from "./docker-engines.ts";
import { connectRabbitMq, defaultRabbitMq, type RabbitMqAccess, type RabbitMqServer } from "./rabbitmq.ts";

/** The same for all repetitions of one request. */
export const requestIdHeader = "x-request-id";

/** A request to the host; the answers are JSON. */
export interface EngineRequest {
  readonly engine: DockerEngineName;
  readonly storage: DockerStorage;
  /** The borrowing process: when it ends, the engine counts as returned. */
  readonly borrower: string;
}

export interface LentEngine {
  readonly loan: string;
  readonly access: DockerEngineAccess;
}

/** A first start may have to unpack the server's packages. */
const START_TIMEOUT_MS = 240_000;

/** The broker of this run, with a virtual host for the caller. `stop` deletes the virtual host. */
export async function borrowRabbitMq(version = defaultRabbitMq): Promise<RabbitMqServer> {
  const server = connectRabbitMq(await ask<RabbitMqAccess>("POST", `/rabbitmq/${version}`));
  const vhost = `file-${crypto.randomUUID()}`;
  await server.addVhost(vhost);
  return { ...server, url: server.urlOf(vhost), vhost, stop: () => server.deleteVhost(vhost) };
}

/** An engine without images, containers and build cache, for the caller alone. `stop` returns it. */
export async function borrowDockerEngine(
  engine: DockerEngineName,
  storage: DockerStorage = defaultStorage(engine),
): Promise<DockerEngine> {
  const request: EngineRequest = { engine, storage, borrower: `${identityOf(process.pid)}` };
  const { access, loan } = await ask<LentEngine>("POST", "/engines", request);
  return { ...connectDockerEngine(access), stop: async () => void (await ask("DELETE", `/engines/${loan}`)) };
}

async function ask<Answer>(method: string, path: string, body?: object): Promise<Answer> {
  const unix = await hostSocket();
  const headers = { [requestIdHeader]: crypto.randomUUID() };
  const response = await waitFor(
    async () => {
      const answer = await fetch(`http://pool${path}`, {
        method,
        unix,
        headers,
        ...(body && { body: JSON.stringify(body) }),
      });
      return answer.status === 202 ? undefined : answer;
    },
    { timeoutMs: START_TIMEOUT_MS, what: `${method} ${path} of the pool of test servers` },
  );
  if (!response.ok) throw new Error(`the pool of test servers: ${await response.text()}`);
  return (await response.json()) as Answer;
}

/** Starts the host unless the run has one. */
async function hostSocket(): Promise<string> {
  // The workers of `bun test --parallel` share the host of the process that started them.
  const owner = process.env.JEST_WORKER_ID === undefined ? process.pid : process.ppid;
  const dir = `${tempDirPrefix("pool", owner)}0`;
  const socket = join(dir, "socket");
  try {
    // Only one of several callers can create the folder.
    mkdirSync(dir);
    startHost(`${identityOf(owner)}`, socket, join(dir, "log"));
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  }
  await waitFor(async () => (await fetch("http://pool/", { unix: socket })).ok, {
    timeoutMs: START_TIMEOUT_MS,
    what: `the pool of test servers (its log is ${join(dir, "log")})`,
  });
  return socket;
}

function startHost(owner: string, socket: string, logPath: string): void {
  const log = openSync(logPath, "w");
  try {
    // Not a child of the test: Bun ends the children of a test that times out.
    Bun.spawnSync(
      ["setsid", "--fork", process.execPath, join(import.meta.dir, "pool-host.ts"), owner, socket],
      {
        env: { ...process.env, JEST_WORKER_ID: undefined, BUN_TEST_WORKER_ID: undefined },
        stdin: "ignore",
        stdout: log,
        stderr: log,
      },
    );
  } finally {
    closeSync(log);
  }
}
