/** Attacks on the admin API from builds, and from other processes of its machine. */
import { expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { apiRequest } from "../../support/blacktree/admin-api.ts";
import { upSite } from "../../support/blacktree/up-site.ts";
import { sampleRepository } from "../../support/machine/sample-repository.ts";
import { waitFor } from "../../support/machine/wait-for.ts";

const site = upSite();

function submit(id: string, tenant: string, repository: string) {
  const job = ["--repo", repository, "--branch", "main", "--version", `v-${randomUUID()}`];
  const destination = ["--account", "1234567890", "--ecr-repo", "app-images", "--tenant", tenant];
  return site.up.cli("submit", "--wait", "--job-id", id, ...job, ...destination);
}

test("a build cannot ADD the log of another tenant's job", async () => {
  await site.git.createRepository("victim/app", await sampleRepository());
  expect(await submit("victim", "victim", "victim/app")).toMatchObject({ exitCode: 0 });

  const api = new URL(site.up.apiUrl).host;
  const dockerfile = `FROM scratch\nADD http://${api}/api/v1/jobs/victim/logs /stolen\n`;
  await site.git.createRepository("attacker/app", { Dockerfile: dockerfile });
  expect(await submit("attacker", "attacker", "attacker/app")).toMatchObject({ exitCode: 1 });
  const { error } = (await site.up.result("attacker")) ?? {};
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
  const file = join(site.folder, "waiting.json");
  await Bun.write(file, JSON.stringify({ ...elsewhere, aws_account: "1234567890", ecr_repo: "app-images" }));
  expect(await site.up.cli("submit", "--file", file, ...waiting)).toMatchObject({ exitCode: 0 });

  const token = await site.up.token();
  const disconnect = new AbortController();
  const follow = (signal: AbortSignal, method = "GET") =>
    apiRequest(site.up.apiUrl, "/api/v1/jobs/waiting/logs?follow=true", { method, signal }, token);
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
    expect(await refused.json()).toMatchObject({ status: 429, title: "Too many readers" });
  } finally {
    disconnect.abort();
  }
  await waitFor(isFollowing, { timeoutMs: 90_000, what: "the places of the disconnected followers" });
});

test("tokens cannot be tried at full speed", async () => {
  const status = async (token: string) =>
    (await apiRequest(site.up.apiUrl, "/api/v1/workers", {}, token)).status;
  const statuses = await Promise.all(Array.from({ length: 100 }, (_, index) => status(`a-guess-${index}`)));
  expect(new Set(statuses)).toEqual(new Set([401, 429]));
  const token = await site.up.token();
  const forgiven = async () => (await status(token)) === 200;
  await waitFor(forgiven, { timeoutMs: 90_000, what: "the right token to be accepted again" });
});
