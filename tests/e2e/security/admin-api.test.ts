/** Attacks on the admin API from builds, and from other processes of its machine. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { apiRequest } from "../../support/blacktree/admin-api.ts";
import { launchUp, type Up, untilUp } from "../../support/blacktree/up.ts";
import type { TestProcess } from "../../support/machine/processes.ts";
import { sampleRepository } from "../../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
import { waitFor } from "../../support/machine/wait-for.ts";
import type { DockerEngine } from "../../support/servers/docker-engines.ts";
import { type GitServer, startGitServer } from "../../support/servers/git-server.ts";
import { borrowDockerEngine } from "../../support/servers/pool.ts";
import { type Registry, startRegistry } from "../../support/servers/registry.ts";

setDefaultTimeout(60_000);

let docker: DockerEngine;
let registry: Registry;
let git: GitServer;
let folder: TempDir;
let process: TestProcess | undefined;
let up: Up;

beforeAll(async () => {
  [docker, registry, git, folder] = await Promise.all([
    borrowDockerEngine("26.1"),
    startRegistry(),
    startGitServer(),
    makeTempDir("apisec"),
  ]);
  const workDir = join(folder.path, "work");
  const env = {
    ...docker.env(),
    BLACKTREE_REGISTRY_USERNAME: registry.username,
    BLACKTREE_REGISTRY_PASSWORD: registry.password,
  };
  process = await launchUp({
    workDir,
    args: ["--registry", registry.host, "--git-base-url", git.baseUrl],
    env,
  });
  up = await untilUp(process, workDir);
}, 240_000);

afterAll(async () => {
  await process?.stop();
  await Promise.all([docker?.stop(), registry?.stop(), git?.stop()]);
  await folder?.remove();
}, 60_000);

function submit(id: string, tenant: string, repository: string) {
  const job = ["--repo", repository, "--branch", "main", "--version", `v-${randomUUID()}`];
  const destination = ["--account", "1234567890", "--ecr-repo", "app-images", "--tenant", tenant];
  return up.cli("submit", "--wait", "--job-id", id, ...job, ...destination);
}

test("a build cannot ADD the log of another tenant's job", async () => {
  await git.createRepository("victim/app", await sampleRepository());
  expect(await submit("victim", "victim", "victim/app")).toMatchObject({ exitCode: 0 });

  const api = new URL(up.apiUrl).host;
  const dockerfile = `FROM scratch\nADD http://${api}/api/v1/jobs/victim/logs /stolen\n`;
  await git.createRepository("attacker/app", { Dockerfile: dockerfile });
  expect(await submit("attacker", "attacker", "attacker/app")).toMatchObject({ exitCode: 1 });
  const { error } = (await up.result("attacker")) ?? {};
  expect(error?.code).toBe("BUILD_FAILED");
  expect(error?.message).toContain("401");
});

test("one client cannot use up the orchestrator by following logs", async () => {
  const waiting = [
    "--repo",
    "victim/app",
    "--branch",
    "main",
    "--version",
    "v-waiting",
    "--job-id",
    "waiting",
  ];
  const elsewhere = { region_policy: "require", worker_region: "eu-west-1" };
  const file = join(folder.path, "waiting.json");
  await Bun.write(file, JSON.stringify({ ...elsewhere, aws_account: "1234567890", ecr_repo: "app-images" }));
  expect(await up.cli("submit", "--file", file, ...waiting)).toMatchObject({ exitCode: 0 });

  const token = await up.token();
  const disconnect = new AbortController();
  const follow = (signal: AbortSignal, method = "GET") =>
    apiRequest(up.apiUrl, "/api/v1/jobs/waiting/logs?follow=true", { method, signal }, token);
  const isFollowing = async () => {
    const once = new AbortController();
    const { status } = await follow(once.signal);
    once.abort();
    return status === 200;
  };
  try {
    await Promise.all(Array.from({ length: 100 }, () => follow(disconnect.signal, "HEAD")));
    const followed = await Promise.all(Array.from({ length: 100 }, () => follow(disconnect.signal)));
    expect(new Set(followed.map(({ status }) => status))).toEqual(new Set([200]));
    const refused = await follow(disconnect.signal);
    expect(refused.status).toBe(429);
    expect(await refused.json()).toMatchObject({ status: 429, title: "Too many followers" });
  } finally {
    disconnect.abort();
  }
  await waitFor(isFollowing, { timeoutMs: 20_000, what: "the places of the disconnected followers" });
});

test("tokens cannot be tried at full speed", async () => {
  const status = async (token: string) => (await apiRequest(up.apiUrl, "/api/v1/workers", {}, token)).status;
  const statuses = await Promise.all(Array.from({ length: 100 }, (_, index) => status(`a-guess-${index}`)));
  expect(new Set(statuses)).toEqual(new Set([401, 429]));
  const token = await up.token();
  const forgiven = async () => (await status(token)) === 200;
  await waitFor(forgiven, { timeoutMs: 20_000, what: "the right token to be accepted again" });
});
