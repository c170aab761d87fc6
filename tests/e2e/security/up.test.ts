/** Attacks on `blacktree up` by other users of its machine. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod, mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { credentials, status } from "@grpc/grpc-js";
import { callUnary } from "../../../src/shared/rpc/call.ts";
import {
  OrchestratorServiceClient,
  WorkerInfo,
} from "../../../src/shared/rpc/generated/blacktree/v1/orchestrator.ts";
import { JobRequest, WorkerServiceClient } from "../../../src/shared/rpc/generated/blacktree/v1/worker.ts";
import { RpcError } from "../../../src/shared/rpc/status.ts";
import { apiRequest } from "../../support/blacktree/admin-api.ts";
import { launchUp, type Up, untilUp } from "../../support/blacktree/up.ts";
import { listeningPorts } from "../../support/machine/listening-ports.ts";
import { run, type TestProcess } from "../../support/machine/processes.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import type { DockerEngine } from "../../support/servers/docker-engines.ts";
import { borrowDockerEngine } from "../../support/servers/pool.ts";

const DEADLINE_MS = 60_000;

let docker: DockerEngine;
let folder: TempDir;
let process: TestProcess | undefined;
let up: Up;

beforeAll(async () => {
  [docker, folder] = await Promise.all([borrowDockerEngine("26.1"), makeTempDir("upsec")]);
  // As /var/lib is: other users may enter the folder above the work folder, and the work folder exists already.
  await chmod(folder.path, 0o755);
  const workDir = join(folder.path, "work");
  await mkdir(workDir, { mode: 0o755 });
  process = await launchUp({ workDir, args: ["--registry", "127.0.0.1:1"], env: docker.env() });
  up = await untilUp(process, workDir);
});

afterAll(async () => {
  await process?.stop();
  await docker?.stop();
  await folder?.remove();
});

/** The statuses of calls that only the other side of the same `up` may make. */
async function statusesOfCalls(address: string): Promise<Record<string, status>> {
  const orchestrator = new OrchestratorServiceClient(address, credentials.createInsecure());
  const worker = new WorkerServiceClient(address, credentials.createInsecure());
  const limits = { deadlineMs: DEADLINE_MS };
  const foreign = { workerId: "foreign", incarnation: "none", region: "us-east-1", address: "127.0.0.1:1" };
  const info = WorkerInfo.fromPartial({ ...foreign, slots: 1 });
  try {
    const register = await statusOf(callUnary(orchestrator.register.bind(orchestrator), info, limits));
    const runJob = await statusOf(callUnary(worker.runJob.bind(worker), JobRequest.create(), limits));
    return { register, runJob };
  } finally {
    orchestrator.close();
    worker.close();
  }
}

async function statusOf(call: Promise<unknown>): Promise<status> {
  try {
    await call;
    return status.OK;
  } catch (error) {
    if (error instanceof RpcError) return error.code;
    throw error;
  }
}

/** Connects to a UNIX socket and prints the outcome. */
const CONNECT =
  'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); print connect(S, pack_sockaddr_un($ARGV[0])) ? "connected" : "$!"';

async function connectAs(user: readonly string[], path: string): Promise<string> {
  return (await run([...user, "perl", "-e", CONNECT, path])).stdout;
}

const OTHER_USER = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

test("its ports accept no registration and no job", async () => {
  const ports = await listeningPorts(up.process.pid);
  for (const port of ports) {
    const { register, runJob } = await statusesOfCalls(`127.0.0.1:${port}`);
    expect({ port, register, runJob }).toEqual({
      port,
      register: status.UNAVAILABLE,
      runJob: status.UNAVAILABLE,
    });
  }
  expect(ports).toEqual([Number(new URL(up.apiUrl).port)]);
});

test("no other user can connect to the sockets on which it accepts them", async () => {
  const sockets = join(up.workDir, "sockets");
  const names = (await readdir(sockets)).toSorted();
  expect(names).toEqual(["orchestrator", "worker"]);
  for (const name of names) {
    expect(await connectAs([], join(sockets, name))).toBe("connected");
    expect(await connectAs(OTHER_USER, join(sockets, name))).toBe("Permission denied");
  }
});

test("no other user can read the token of its admin API, which answers no request without it", async () => {
  expect((await fetch(`${up.apiUrl}/api/v1/workers`)).status).toBe(401);
  expect((await apiRequest(up.apiUrl, "/api/v1/workers", {}, await up.token())).status).toBe(200);
  const file = join(up.workDir, "admin-token");
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect((await run([...OTHER_USER, "cat", file], { mayFail: true })).stderr).toContain("Permission denied");
});

test("its commands find the token without a flag, and refuse a file that other users can read", async () => {
  expect(await up.cli("workers")).toMatchObject({ exitCode: 0, stderr: "" });
  const readable = join(folder.path, "readable");
  await Bun.write(readable, await up.token());
  await chmod(readable, 0o644);
  const { exitCode, stderr } = await up.cli("workers", "--token-file", readable);
  expect(exitCode).toBe(2);
  expect(stderr).toContain(`chmod 600 ${readable}`);
});

test("a wrong token is refused with its origin", async () => {
  const wrong = join(folder.path, "wrong");
  await Bun.write(wrong, "a-wrong-token");
  await chmod(wrong, 0o600);
  const { exitCode, stderr } = await up.cli("workers", "--token-file", wrong);
  expect(exitCode).toBe(1);
  expect(stderr).toContain(`sent the token of ${wrong}`);
});
