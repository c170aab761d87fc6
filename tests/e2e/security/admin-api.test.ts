/** Attacks on the admin API from builds, and from other processes of its machine. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { launchUp, type Up, untilUp } from "../../support/blacktree/up.ts";
import type { TestProcess } from "../../support/machine/processes.ts";
import { sampleRepository } from "../../support/machine/sample-repository.ts";
import { makeTempDir, type TempDir } from "../../support/machine/temp-dir.ts";
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
