/** The servers that `blacktree up` needs for a job, with an example repository. */
import { apiRequest } from "../support/blacktree/admin-api.ts";
import { sampleRepository } from "../support/machine/sample-repository.ts";
import { waitFor } from "../support/machine/wait-for.ts";
import { startGitServer } from "../support/servers/git-server.ts";
import { type Registry, startRegistry } from "../support/servers/registry.ts";
import { type Engine, privateEngine, runningEngine } from "./engine.ts";
import type { Steps } from "./steps.ts";

const REPOSITORY = "acme/sample";

export interface Surroundings {
  readonly engine: Engine;
  readonly registry: Registry;
  readonly gitUrl: string;
}

/** Starts a Docker Engine (if this user has access to none), a registry and a git server. */
export async function startSurroundings(steps: Steps, log: (line: string) => void): Promise<Surroundings> {
  const engine = (await runningEngine()) ?? (await privateEngine());
  steps.afterwards("Docker", engine.stop);
  log(`Docker: ${engine.description}`);
  const registry = await startRegistry();
  steps.afterwards("the registry", registry.stop);
  log(`registry: ${registry.host}, with a password`);
  const git = await startGitServer();
  steps.afterwards("the git server", git.stop);
  await git.createRepository(REPOSITORY, await sampleRepository());
  log(`repository: ${git.baseUrl}/${REPOSITORY}`);
  return { engine, registry, gitUrl: git.baseUrl };
}

export interface UpCommand {
  readonly args: readonly string[];
  /** Changes to this process's environment; undefined removes a variable. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** `blacktree up` with these servers. Settings of this machine's environment do not apply. */
export function upCommand(
  { engine, registry, gitUrl }: Surroundings,
  { workDir, listen }: { readonly workDir: string; readonly listen: string },
): UpCommand {
  const args = [
    ...["up", "--work-dir", workDir, "--admin-listen", listen, "--git-base-url", gitUrl],
    ...["--registry", registry.host, "--registry-username", registry.username],
  ];
  return {
    args,
    env: { ...withoutSettings(), ...engine.env, BLACKTREE_REGISTRY_PASSWORD: registry.password },
  };
}

/** The running `blacktree up`. */
export interface UpApi {
  readonly api: string;
  /** Made by `up`. */
  readonly tokenFile: string;
}

export function submitArguments({ api, tokenFile }: UpApi, version: string): readonly string[] {
  return [
    ...[
      "submit",
      "--api",
      api,
      "--token-file",
      tokenFile,
      "--repo",
      REPOSITORY,
      "--branch",
      "main",
      "--version",
      version,
    ],
    ...["--account", "1234567890", "--ecr-repo", "app-images", "--wait"],
  ];
}

/** Removes Blacktree's settings from the environment of a child process. */
export function withoutSettings(): Record<string, undefined> {
  const names = Object.keys(process.env).filter((name) => name.startsWith("BLACKTREE_"));
  return Object.fromEntries(names.map((name) => [name, undefined]));
}

/** Waits until a worker has registered, or `hasEnded` reports the end of `blacktree up`. */
export function waitForWorker(
  { api, tokenFile }: UpApi,
  hasEnded: () => boolean,
): Promise<"ready" | "ended"> {
  const state = async (): Promise<"ready" | "ended" | undefined> => {
    if (hasEnded()) return "ended";
    const response = await apiRequest(api, "/api/v1/workers", {}, await readToken(tokenFile));
    const { items } = (await response.json()) as { items: unknown[] };
    return items.length > 0 ? "ready" : undefined;
  };
  return waitFor(state, { timeoutMs: 60_000, what: "a worker to register" });
}

async function readToken(tokenFile: string): Promise<string> {
  return (await Bun.file(tokenFile).text()).trim();
}
