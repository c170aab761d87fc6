/** Shared by test files that run `blacktree up` on a registry, a git server and an engine. */
import { afterAll, beforeAll, setDefaultTimeout } from "bun:test";
import { join } from "node:path";
import type { TestProcess } from "../machine/processes.ts";
import { makeTempDir, type TempDir } from "../machine/temp-dir.ts";
import type { DockerEngine } from "../servers/docker-engines.ts";
import { type GitServer, startGitServer } from "../servers/git-server.ts";
import { borrowDockerEngine } from "../servers/pool.ts";
import { type Registry, startRegistry } from "../servers/registry.ts";
import { launchUp, type Up, untilUp } from "./up.ts";

export interface UpSite {
  readonly up: Up;
  readonly registry: Registry;
  readonly git: GitServer;
  /** Contains the work folder; tests may put files beside it. */
  readonly folder: string;
}

/** Call it at the top of a file: all of it runs for the whole file. */
export function upSite(settings: Readonly<Record<string, string>> = {}): UpSite {
  setDefaultTimeout(180_000);
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
      makeTempDir("up"),
    ]);
    const workDir = join(folder.path, "work");
    process = await launchUp({
      workDir,
      args: ["--registry", registry.host, "--git-base-url", git.baseUrl],
      env: {
        ...docker.env(),
        BLACKTREE_REGISTRY_USERNAME: registry.username,
        BLACKTREE_REGISTRY_PASSWORD: registry.password,
        ...settings,
      },
    });
    up = await untilUp(process, workDir);
  }, 240_000);

  afterAll(async () => {
    await process?.stop();
    await Promise.all([docker?.stop(), registry?.stop(), git?.stop()]);
    await folder?.remove();
  }, 240_000);

  return {
    get up() {
      return up;
    },
    get registry() {
      return registry;
    },
    get git() {
      return git;
    },
    get folder() {
      return folder.path;
    },
  };
}
