/** The Docker Engine that `bun run try` and `bun run dev` build with. */

import { type FinishedProcess, type RunOptions, run } from "../support/machine/processes.ts";
import { type DockerEngineName, startDockerEngine } from "../support/servers/docker-engines.ts";
import { TrialFailed } from "./steps.ts";

export interface Engine {
  readonly description: string;
  /** Environment variables that programs need to use this engine. */
  readonly env: Record<string, string | undefined>;
  docker(args: readonly string[], options?: RunOptions): Promise<FinishedProcess>;
  stop(): Promise<void>;
}

/** A remote engine cannot reach the registry, which listens on this machine's loopback. */
function isRemote(): boolean {
  const host = process.env.DOCKER_HOST;
  return host !== undefined && host !== "" && !host.startsWith("unix://");
}

async function runningVersion(): Promise<string | undefined> {
  if (isRemote() || Bun.which("docker") === null) return undefined;
  const result = await run(["docker", "version", "--format", "{{.Server.Version}}"], { mayFail: true });
  return result.exitCode === 0 ? result.stdout.trim() : undefined;
}

/** The engine that runs on this machine, if this user has access to it. */
export async function runningEngine(): Promise<Engine | undefined> {
  const version = await runningVersion();
  if (version === undefined) return undefined;
  return {
    description: `the running Docker Engine ${version}`,
    env: {},
    docker: (args, options) => run(["docker", ...args], options),
    stop: async () => undefined,
  };
}

/** Of the two generations that tests/support can start, the one that the installed packages suffice for. */
async function installedGeneration(): Promise<DockerEngineName> {
  const { stdout } = await run(["dockerd", "--version"]);
  return /version v?20\.10\./.test(stdout) ? "20.10" : "26.1";
}

/** A temporary daemon with a separate data folder; stop() ends it and removes the folder. */
export async function privateEngine(): Promise<Engine> {
  const engine = await startDockerEngine({ engine: await installedGeneration() });
  return {
    description: `a temporary Docker Engine ${engine.version}`,
    env: engine.env(),
    docker: (args, options) => engine.docker(args, options),
    stop: () => engine.stop(),
  };
}

/**
 * Runs `script` again with sudo if it needs root: only root can start a Docker daemon. `prepare` runs before that, so
 * that the files that it makes belong to the user.
 * @returns the exit status of that run; undefined when root is not needed.
 */
export async function rerunAsRoot(
  script: string,
  prepare: () => Promise<unknown>,
): Promise<number | undefined> {
  if (process.getuid?.() === 0 || (await runningEngine())) return undefined;
  if (Bun.which("sudo") === null) {
    throw new TrialFailed(
      "this user has no access to a running Docker Engine, and only root can start one; run this as root",
    );
  }
  await prepare();
  console.log("No Docker Engine that this user has access to; continuing with sudo, to start one as root.");
  const { exited } = Bun.spawn(["sudo", process.execPath, script], {
    stdio: ["inherit", "inherit", "inherit"],
  });
  return exited;
}
